/** The scheduler's HTTP API, as anybody would call it. */
import { readFileSync } from 'node:fs';
import type { MethodName, Params, Result } from '../../src/model/methods.ts';
import { hasEnded, type Operation } from '../../src/model/operation.ts';
import { SCHEDULER_URL, TOKEN } from './places.ts';

export async function request<T>(verb: string, path: string, body?: object): Promise<T> {
  const token = readFileSync(TOKEN, 'utf8').trim();
  const response = await fetch(`${SCHEDULER_URL}${path}`, {
    method: verb,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = (await response.json()) as T & { error?: { message: string; hint?: string } };
  if (answer.error === undefined) return answer;
  throw new Error(
    `${verb} ${path}: ${answer.error.message}${answer.error.hint === undefined ? '' : ` (${answer.error.hint})`}`,
  );
}

/** Any method of an agent, through the scheduler. */
export async function call<M extends MethodName>(
  node: string,
  method: M,
  params: Partial<Params<M>>,
): Promise<Result<M>> {
  const { result } = await request<{ result: Result<M> }>('POST', `/v1/nodes/${node}/call`, {
    method,
    params,
  });
  return result;
}

/** Waits for the end of an operation. @throws {Error} when it did not succeed */
export async function ended(node: string, operation: Operation): Promise<void> {
  let latest = operation;
  while (!hasEnded(latest.state)) {
    ({ operation: latest } = await call(node, 'operation.get', { id: operation.id, waitSeconds: 20 }));
  }
  if (latest.state === 'succeeded') return;
  throw new Error(`${latest.kind} ${latest.target.name} ${latest.state}: ${latest.error?.message}`);
}
