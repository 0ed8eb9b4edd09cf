/**
 * One drift as it is found: when it was found first is the reconciler's to say. Pure.
 */
import { DETAIL_LIMIT, type Drift, type DriftKind, type Remedy } from '../../model/drift.ts';

export type Found = Omit<Drift, 'since'>;

/** @param remedy @default 'restore' */
export function found(kind: DriftKind, detail: string, remedy: Remedy = 'restore'): Found {
  const short = detail.length <= DETAIL_LIMIT ? detail : `${detail.slice(0, DETAIL_LIMIT - 1)}…`;
  return { kind, detail: short, remedy };
}
