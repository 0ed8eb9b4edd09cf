/**
 * Drift: what others have made of an instance's guest behind our back, and what can be done about it.
 */
import { nullable, strict, Timestamp } from './common.ts';
import { type Static, Type } from './schema.ts';

export const DRIFT_KINDS = [
  'undefined',
  'renamed',
  'size-changed',
  'disk-attached',
  'disk-detached',
  'disk-changed',
  'nic-attached',
  'nic-detached',
  'nic-changed',
  'share-attached',
  'share-detached',
  'share-changed',
  'definition-changed',
  'metadata-lost',
  'started',
  'stopped',
  'paused',
] as const;
export type DriftKind = (typeof DRIFT_KINDS)[number];

export const REMEDIES = ['restore', 'after-stop', 'by-hand'] as const;
export type Remedy = (typeof REMEDIES)[number];

/** Drifts that are told of one instance; a guest that somebody has made anew has one cause for all of them. */
export const DRIFTS_LIMIT = 32;
/** Longest detail, characters: a path that others have chosen may be of any length. */
export const DETAIL_LIMIT = 300;

/** One thing in which a guest is not as it was defined, or not as it was last asked to be. */
export const Drift = strict({
  kind: Type.Enum([...DRIFT_KINDS]),
  detail: Type.String({ description: 'what is so, in words' }),
  since: Timestamp,
  remedy: Type.Enum([...REMEDIES], {
    description:
      'restore: instance.restore mends it now; after-stop: it goes with the next stop, or can be restored then; by-hand: an operator has to decide',
  }),
});
export type Drift = Static<typeof Drift>;

/** What a restore mends. `definition`: no guest is started or resumed. */
export const RESTORE_SCOPES = ['all', 'definition'] as const;
export type RestoreScope = (typeof RESTORE_SCOPES)[number];

/** What the policy `restore` has done within the last hour. */
export const Restores = strict({
  count: Type.Integer({
    minimum: 0,
    description: 'restores by policy that are still held against its limit',
  }),
  lastAt: nullable(Timestamp),
  givenUp: nullable(Type.String({ description: 'why the policy restores nothing more for now' })),
});
export type Restores = Static<typeof Restores>;

/** Why a define of the guest would do harm, in words; null where it would not. Pure. */
export function objectionTo(drifts: readonly Pick<Drift, 'kind' | 'remedy'>[]): string | null {
  const kinds = drifts.filter(({ remedy }) => remedy === 'by-hand').map(({ kind }) => kind);
  if (kinds.includes('metadata-lost'))
    return 'its guest has lost our metadata, so it is not ours by the host’s word';
  if (kinds.includes('disk-changed')) {
    return 'a disk of its guest is another file, which may hold what was written since';
  }
  return null;
}
