/** Volumes that clauses about commands make, and delete. */
import { randomUUID } from 'node:crypto';
import { excerpt, must } from '../clause.ts';
import type { Line, Message } from '../line.ts';

/** An operation on a slow host has its time, ms; the agent waits for less at a time. */
const OPERATION_MS = 60_000;
const WAIT_SECONDS = 5;

/** @returns The id of the operation, and the name of the volume. */
export async function makeVolume(
  line: Line,
  key: string = randomUUID(),
): Promise<{ id: string; name: string }> {
  const name = newName();
  const answer = await line.ask('volume.create', { name, sizeGib: 1, key });
  return { id: await succeeded(line, answer), name };
}

export async function removeVolume(line: Line, name: string): Promise<void> {
  await succeeded(line, await line.ask('volume.delete', { id: name }));
}

async function succeeded(line: Line, { result, error }: Message): Promise<string> {
  const operation = result?.['operation'] as { id: string; state: string } | undefined;
  must(operation !== undefined, `it answered ${excerpt(error?.message ?? result)}`);
  const until = performance.now() + OPERATION_MS;
  for (let state = operation.state; state !== 'succeeded'; ) {
    must(state === 'pending' || state === 'running', `the operation is ${state}`);
    must(performance.now() < until, 'the operation does not end');
    const answer = await line.ask('operation.get', { id: operation.id, waitSeconds: WAIT_SECONDS });
    state = (answer.result?.['operation'] as { state: string } | undefined)?.state ?? 'unknown';
  }
  return operation.id;
}

export function newName(): string {
  return `conformance-${randomUUID().slice(0, 8)}`;
}
