/**
 * Progress of a step that moves bytes.
 */
import type { StepProgress } from '../../model/operation.ts';

/**
 * @param total Null while it is not known: then no percent is told.
 * @param place Which of how many phases of the step it is, from 0. @default the only one
 */
export function bytesProgress(
  phase: string,
  done: number,
  total: number | null,
  [place, count]: [number, number] = [0, 1],
): StepProgress {
  const share = total === null ? 0 : done / Math.max(1, total);
  return { percent: Math.floor((100 * (place + share)) / count), phase, bytes: { done, total } };
}
