/**
 * The gateway's HTTP API, over connections that are kept.
 */
import { Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { text } from 'node:stream/consumers';
import { AgentError, type ErrorBody } from '../src/model/errors.ts';
import type { GatewayAddress } from './agent.ts';

/** The slowest that is asked here waits for a node's answer. Milliseconds. */
const TIMEOUT_MS = 30_000;

export class GatewayApi {
  readonly #address: GatewayAddress;
  readonly #agent: PlainAgent | SecureAgent;

  /** @param connections At a time; requests beyond them wait. */
  constructor(address: GatewayAddress, connections: number) {
    this.#address = address;
    const options = { keepAlive: true, maxSockets: connections };
    this.#agent =
      address.ca === null ? new PlainAgent(options) : new SecureAgent({ ...options, ca: address.ca });
  }

  /** @throws {AgentError} What the gateway refused with; UNAVAILABLE: it did not answer. */
  async ask<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<T> {
    const { status, answer } = await this.#send(
      method,
      path,
      body === undefined ? null : JSON.stringify(body),
    );
    if (status < 300) return answer as T;
    throw AgentError.fromBody((answer as { error: ErrorBody }).error);
  }

  close(): void {
    this.#agent.destroy();
  }

  async #send(
    method: string,
    path: string,
    body: string | null,
  ): Promise<{ status: number; answer: unknown }> {
    const { api, token } = this.#address;
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; answer: unknown }>();
    const send = this.#address.ca === null ? plainRequest : secureRequest;
    const headers = {
      authorization: `Bearer ${token}`,
      ...(body === null
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
    };
    const options = { method, headers, agent: this.#agent, timeout: TIMEOUT_MS };
    const sent = send(new URL(path, api), options, (response) => {
      text(response)
        .then((said) => resolve({ status: response.statusCode ?? 0, answer: JSON.parse(said) }))
        .catch(reject);
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer in ${TIMEOUT_MS / 1000} s`)));
    sent.on('error', (cause) =>
      reject(new AgentError('UNAVAILABLE', `The gateway did not answer ${method} ${path}`, { cause })),
    );
    sent.end(body ?? undefined);
    return promise;
  }
}
