/** The local socket, as any program on the host calls it. */
import { request } from 'node:http';
import { AgentError, type ErrorBody } from '../../../src/model/errors.ts';
import type { MethodName, Params, Result } from '../../../src/model/methods.ts';

export class LocalClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** @throws {AgentError} what was answered; {Error} nobody answers, or no longer */
  call<M extends MethodName>(method: M, params: Partial<Params<M>>): Promise<Result<M>> {
    return this.#request('POST', `/v1/${method}`, JSON.stringify(params));
  }

  /** Tells how many bytes of an upload are there, after those that are given. */
  upload(image: string, piece?: { at: number; bytes: Buffer }): Promise<{ at: number }> {
    const path = `/v1/uploads/${image}`;
    if (piece === undefined) return this.#request('GET', path, '');
    return this.#request('PUT', `${path}?at=${piece.at}`, piece.bytes);
  }

  #request<R>(method: 'GET' | 'POST' | 'PUT', path: string, body: string | Buffer): Promise<R> {
    const { promise, resolve, reject } = Promise.withResolvers<R>();
    const headers = typeof body === 'string' ? {} : { 'content-type': 'application/octet-stream' };
    const options = { socketPath: this.#socketPath, path, method, headers, agent: false };
    const call = request(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', reject);
      response.on('end', () => {
        const answer = JSON.parse(text) as { error?: ErrorBody };
        if (answer.error === undefined) resolve(answer as R);
        else reject(AgentError.fromBody(answer.error));
      });
    });
    call.on('error', reject).end(body);
    return promise;
  }
}
