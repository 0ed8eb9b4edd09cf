/**
 * Judge: whose a thing on the host is. Pure.
 *
 *   an unfinished operation has planned it ─▶ busy
 *   an object of this node is made of it ───▶ owned
 *   it bears no mark of ours ───────────────▶ foreign
 *   the journal named it ───────────────────▶ leak, proven
 *   the journal does not know it ───────────▶ leak, not proven: another berthd's, or older than the journal
 *
 * In doubt a thing is not proven, and what is not proven is never removed.
 */
import type { ThingKind } from '../../model/leak.ts';
import type { NameRow } from '../store/names.ts';
import type { Thing } from './thing.ts';

/** What this node knows, asked thing by thing. */
export interface Ledger {
  /** Whether an object that this node has is made of it. */
  owns(thing: Thing): boolean;
  /** Whether this node has that object. */
  lives(object: NameRow['object']): boolean;
  /** The journal's entry for a name. */
  entryOf(kind: ThingKind, name: string): NameRow | null;
}

export type Verdict =
  | { state: 'busy' | 'owned' | 'foreign' }
  | { state: 'leak'; proof: NameRow | null; blocked: string | null };

/** Kinds that are files by which a guest is known again: an instance's own, named by its id or a random one. */
const FILES_OF_GUESTS = ['seed', 'console', 'volume'] as const satisfies ThingKind[];

export function judge(thing: Thing, ledger: Ledger): Verdict {
  const entries = thing.journalNames
    .map((name) => ledger.entryOf(thing.kind, name))
    .filter((entry) => entry !== null);
  if (entries.some(({ busy }) => busy)) return { state: 'busy' };
  if (ledger.owns(thing) || entries.some((entry) => isKept(entry, ledger))) return { state: 'owned' };
  if (!thing.marked) return { state: 'foreign' };
  const proof = entries.find((entry) => proves(entry, thing, ledger)) ?? null;
  return { state: 'leak', proof, blocked: thing.blocked };
}

/** Named for an object that this node still has, and not released. */
function isKept({ object, releasedAt }: NameRow, ledger: Ledger): boolean {
  return releasedAt === null && ledger.lives(object);
}

/** The entry is about this very thing, not about another one of the same name. */
function proves(entry: NameRow, thing: Thing, ledger: Ledger): boolean {
  switch (thing.kind) {
    case 'guest':
      return thing.files.some((file) => isFileOf(entry.object.id, file, ledger));
    case 'nvram':
    case 'saved-memory':
      return false; // named by an instance's name, which others on this host may have given, too
    default:
      return entry.object.kind !== 'network' || [entry.object.id, null].includes(thing.networkId);
  }
}

/** An id may have been given to an instance elsewhere; the files that a guest has are of this node's pool or not. */
function isFileOf(objectId: string, file: string, ledger: Ledger): boolean {
  return FILES_OF_GUESTS.some((kind) => ledger.entryOf(kind, file)?.object.id === objectId);
}
