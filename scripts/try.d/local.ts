/** The agent's local socket: what root may do there, a scheduler may not. */
import { request } from 'node:http';
import type { MethodName, Params, Result } from '../../src/model/methods.ts';
import { hasEnded, type Operation } from '../../src/model/operation.ts';
import { SOCKET } from './places.ts';

export function local<M extends MethodName>(method: M, params: Partial<Params<M>>): Promise<Result<M>> {
  const { promise, resolve, reject } = Promise.withResolvers<Result<M>>();
  const call = request({ socketPath: SOCKET, path: `/v1/${method}`, method: 'POST' }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    response.on('end', () => {
      const answer = JSON.parse(text) as Result<M> & { error?: { message: string } };
      if (answer.error === undefined) resolve(answer);
      else reject(new Error(`${method}: ${answer.error.message}`));
    });
  });
  call.on('error', reject).end(JSON.stringify(params));
  return promise;
}

/** Calls an operation and waits for its end. @throws {Error} when it did not succeed */
export async function operate<M extends MethodName>(method: M, params: Partial<Params<M>>): Promise<void> {
  let { operation } = (await local(method, params)) as unknown as { operation: Operation };
  while (!hasEnded(operation.state)) {
    ({ operation } = await local('operation.get', { id: operation.id, waitSeconds: 20 }));
  }
  if (operation.state === 'succeeded') return;
  throw new Error(`${method} ${operation.target.name}: ${operation.error?.message}`);
}
