/**
 * A thing: something on the host that may be ours, as a look has found it, before anyone has judged whose it is.
 */
import type { HostPart, ThingKind } from '../../model/leak.ts';

export interface Thing {
  kind: ThingKind;
  /** As callers are told. */
  name: string;
  /** Names that the journal may have for it: an image that is not whole yet does not show its format. */
  journalNames: readonly string[];
  /** It bears a mark of ours, or is named as only we name things; what does not is nobody's business here. */
  marked: boolean;
  /** Of the object that it would be of: instance, volume, image, network or port; null where it does not tell. */
  objectId: string | null;
  /** The network that it says it is of; null for none. */
  networkId: string | null;
  /** Files that a guest names, by which it is told whose it is. */
  files: readonly string[];
  /** Why it cannot be removed now, by what the host says; null for nothing. */
  blocked: string | null;
  /** Bytes on the disk; null for what is no file. */
  sizeBytes: number | null;
  /** The pool whose file it is; null for what is no file of a pool. */
  pool: string | null;
}

/** What of the host is asked by itself: a part of it, and of the files those of one pool. */
export interface Asked {
  part: HostPart;
  /** Null for another part than files. */
  pool: string | null;
}

/** Of which part of the host a kind of thing is. */
export function partOf(kind: ThingKind): HostPart {
  switch (kind) {
    case 'guest':
    case 'secret':
    case 'nvram':
    case 'saved-memory':
      return 'guests';
    case 'seed':
    case 'console':
    case 'volume':
    case 'share':
    case 'image':
      return 'files';
    default:
      return 'network';
  }
}

export function askedOf({ kind, pool }: Pick<Thing, 'kind' | 'pool'>): Asked {
  return { part: partOf(kind), pool };
}

export function isSameAsked(one: Asked, other: Asked): boolean {
  return one.part === other.part && one.pool === other.pool;
}

/** One key for a kind and a name. */
export function keyOf({ kind, name }: { kind: ThingKind; name: string }): string {
  return `${kind} ${name}`;
}
