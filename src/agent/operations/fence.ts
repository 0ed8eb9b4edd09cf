/**
 * The fence of a command: repeats get the first answer, latecomers are refused (promise 6). Pure.
 */
import { createHash } from 'node:crypto';
import { AgentError } from '../../model/errors.ts';

/** What tells two requests under one key apart: all of it but the fence itself. */
export function digestOf(method: string, params: Record<string, unknown>): string {
  const { key: _key, epoch: _epoch, generation: _generation, ...rest } = params;
  return createHash('sha256')
    .update(`${method}\n${canonical(rest)}`)
    .digest('hex');
}

export function checkEpoch(given: number | undefined, seen: number): void {
  if (given === undefined || given >= seen) return;
  throw new AgentError('STALE', `The command is of epoch ${given}; this node has seen epoch ${seen}`, {
    details: { epoch: seen },
  });
}

export function checkGeneration(
  given: number | undefined,
  current: { name: string; generation: number },
): void {
  if (given === undefined || given === current.generation) return;
  throw new AgentError(
    'STALE',
    `The command is for generation ${given} of ${current.name}, which is at ${current.generation}`,
    {
      hint: 'Show it, and decide anew.',
      details: { generation: current.generation },
    },
  );
}

/** JSON with sorted keys. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(',')}}`;
}
