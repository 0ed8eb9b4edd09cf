/**
 * The note in a new database that says what is still to be done: rebuild the state from the host, and why.
 *
 * It is written with the database's first rows and goes with the transaction that rebuilds, so that a crash in
 * between is taken up by the next start.
 */
import { strict, Timestamp } from '../../model/common.ts';
import { type Static, Type } from '../../model/schema.ts';
import { findFault } from '../../model/validate.ts';

const RecoveryNote = strict({
  version: Type.Literal(1),
  /** `new`: there was no database. `damaged`: it was set aside. `behind`: it has lost what the host knows. */
  cause: Type.Enum(['new', 'damaged', 'behind']),
  /** One sentence. */
  reason: Type.String(),
  since: Timestamp,
  /** Path of the database that was set aside; empty for none. */
  setAside: Type.String(),
  /** Taken over from it, by id: for what has no name of its own on the host. */
  names: Type.Record(Type.String(), Type.String()),
  generations: Type.Record(Type.String(), Type.Integer()),
});
export type RecoveryNote = Omit<Static<typeof RecoveryNote>, 'version'>;

export function writeRecoveryNote(note: RecoveryNote): string {
  return JSON.stringify({ version: 1, ...note });
}

/** Null where there is none, or none that can be read. */
export function parseRecoveryNote(text: string | null): RecoveryNote | null {
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (findFault(RecoveryNote, value) !== null) return null;
    const { version: _version, ...note } = value as Static<typeof RecoveryNote>;
    return note;
  } catch {
    return null;
  }
}
