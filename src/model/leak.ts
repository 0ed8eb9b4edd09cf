/**
 * Leaks: things on the host that bear our marks or names and belong to nothing that this node knows.
 *
 * A leak is `proven` where the journal of this node named it before it was made, and the object that it was of is
 * gone. All else that looks like ours is shown without proof, and never removed: another berthd on the same host, with
 * a state folder of its own, makes things of the same form.
 */

import { Id, nullable, strict, Timestamp } from './common.ts';
import { type Static, Type } from './schema.ts';

/**
 * What Berth makes on a host, by kind; each is named in the journal before it exists.
 *
 * Files are named by their absolute path, guests by their UUID, secrets by that of their volume, all else by the name that the host shows.
 */
export const THING_KINDS = [
  'guest',
  'tap',
  'dhcp-reservation',
  'dhcp-process',
  'dhcp-unit',
  'bridge',
  'nft-table',
  'dhcp-folder',
  'seed',
  'console',
  'volume',
  'share',
  'image',
  'secret',
  'nvram',
  'saved-memory',
] as const;
export type ThingKind = (typeof THING_KINDS)[number];

/** Longest name of a thing: a path. @see PATH_MAX, linux/limits.h */
const NAME_MAX = 4096;

export const ThingName = Type.String({
  pattern: `^[^\\x00-\\x1f\\x7f]{1,${NAME_MAX}}$`,
  description: 'name as the host shows it: a path, a UUID, a device, a table',
});

/** Most leaks that one answer or event lists; `total` counts them all. */
export const LEAKS_LISTED_MAX = 1000;

export const Leak = strict({
  kind: Type.Enum([...THING_KINDS]),
  name: ThingName,
  since: Type.String({ description: 'when this daemon first saw it without an owner; RFC 3339, UTC' }),
  confirmed: Type.Boolean({
    description: 'seen without an owner in two looks some time apart; only a confirmed one is removed',
  }),
  proof: nullable(
    strict(
      {
        operationId: Id,
        object: strict({ kind: Type.String(), id: Id }),
        plannedAt: Timestamp,
        releasedAt: nullable(Timestamp),
      },
      { description: 'the entry of the journal that names it; null: this node cannot prove that it made it' },
    ),
  ),
  blocked: nullable(
    Type.String({ description: 'why it would not be removed now, such as a guest that uses it' }),
  ),
  sizeBytes: nullable(
    Type.Integer({ description: 'bytes that it takes on the disk; null for what is no file' }),
  ),
});
export type Leak = Static<typeof Leak>;

/** Parts of the host that are asked, each by itself. */
export const HOST_PARTS = ['guests', 'network', 'files'] as const;
export type HostPart = (typeof HOST_PARTS)[number];

const pool = nullable(Type.String(), 'whose files; null for another part than files');

export const NodeLeaks = strict({
  at: Type.String({ description: 'when the host was looked at; RFC 3339, UTC' }),
  total: Type.Integer({ minimum: 0 }),
  leaks: Type.Array(Leak, { description: `at most ${LEAKS_LISTED_MAX}, what could be removed first` }),
  unknown: Type.Array(strict({ part: Type.Enum([...HOST_PARTS]), pool, reason: Type.String() }), {
    description: 'parts of the host that could not be asked: nothing is known of their leaks',
  }),
  confirmInMs: nullable(
    Type.Integer({
      description: 'milliseconds until a look can confirm what is not confirmed; null for none',
    }),
  ),
});
export type NodeLeaks = Static<typeof NodeLeaks>;
