/**
 * The fence of a command: repeats get the first answer, latecomers are refused (promise 6). Pure.
 */
import { digestOf } from '../../model/digest.ts';
import { AgentError } from '../../model/errors.ts';

/** What tells two requests under one key apart: all of it but the fence itself. */
export function digestOfRequest(method: string, params: Record<string, unknown>): string {
  const { key: _key, epoch: _epoch, generation: _generation, ...rest } = params;
  return digestOf([method, rest]);
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
