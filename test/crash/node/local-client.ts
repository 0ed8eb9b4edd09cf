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
    const { promise, resolve, reject } = Promise.withResolvers<Result<M>>();
    const options = { socketPath: this.#socketPath, path: `/v1/${method}`, method: 'POST', agent: false };
    const call = request(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', reject);
      response.on('end', () => {
        const answer = JSON.parse(text) as { error?: ErrorBody };
        if (answer.error === undefined) resolve(answer as Result<M>);
        else reject(AgentError.fromBody(answer.error));
      });
    });
    call.on('error', reject).end(JSON.stringify(params));
    return promise;
  }
}
