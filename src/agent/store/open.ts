/**
 * Opening the node's database: the one there is, if it can be trusted; else a new one, to be rebuilt.
 *
 *   condemned? ─▶ set aside
 *   open ─▶ header, schema, structure, references, seals, log not lost, rows fit their schemas ─▶ serve
 *     └─ any of them fails ─▶ set aside ─▶ a new one ─▶ what can be proven is taken over ─▶ note: rebuild
 *
 * Promises: no file is deleted. A database of a newer Berth, or a folder that can't be written, is refused and
 * left as it is. A new database knows the node's id, the newest epoch and a number for its next event that
 * nobody has seen, before anything is told to anyone.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { Id, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { hasEnded } from '../../model/operation.ts';
import { Type } from '../../model/schema.ts';
import { findFault } from '../../model/validate.ts';
import { DamagedDatabase } from '../../sqlite/damage.ts';
import type { CommitWatch } from '../../sqlite/database.ts';
import {
  listSetAside,
  SET_ASIDE_KEPT,
  type SetAside,
  setAside,
  setAsideCondemned,
  syncFolder,
  writeDurably,
} from '../../sqlite/set-aside.ts';
import type { Log } from '../log.ts';
import { findBadRow } from './bad-rows.ts';
import { COPY_OPENING, isMarked, mark, markWithoutLog, unmark } from './open-mark.ts';
import { type RecoveryNote, writeRecoveryNote } from './recovery-note.ts';
import { type Salvage, type SalvagedOperation, salvage } from './salvage.ts';
import { DATABASE_NAME, Store } from './store.ts';

/** Beside the database, so that the node keeps its id when that is lost. */
const NODE_FILE = 'node.json';
const NODE_FILE_BYTES_LIMIT = 4_096;
const NodeFile = strict({ version: Type.Literal(1), nodeId: Id });

export interface OpenParts {
  folder: string;
  clock: Clock;
  log: Log;
  /** Told of each commit. @default nobody */
  commits?: CommitWatch | undefined;
  newId: () => string;
}

/**
 * @throws {AgentError} HOST_CONFLICT: another daemon has it. UNAVAILABLE: the folder can't be written.
 * UNSUPPORTED: made by a newer Berth.
 */
export function openStore(parts: OpenParts): { store: Store; nodeId: string } {
  const { folder, log } = parts;
  const { store, aside } = openTrusted(parts);
  try {
    const nodeId = store.meta.get('node_id') ?? begin(store, aside, parts);
    keepNodeId(folder, nodeId);
    keepOutbox(store, parts);
    mark(store, folder, DATABASE_NAME, parts.newId());
    store.onClose(() => unmark(store, folder, DATABASE_NAME));
    tellOfOld(folder, log);
    if (aside !== null)
      log.error({ ...aside }, 'THE DATABASE WAS DAMAGED: it is set aside, and rebuilt from the host');
    return { store, nodeId };
  } catch (error) {
    store.close();
    throw error;
  }
}

function tellOfOld(folder: string, log: Log): void {
  const old = listSetAside(folder, DATABASE_NAME).slice(SET_ASIDE_KEPT);
  if (old.length > 0) log.warn({ old }, 'old databases that were set aside can be deleted');
}

/** A store whose database is whole; and what had to be set aside for it. */
function openTrusted(parts: OpenParts): { store: Store; aside: SetAside | null } {
  const { folder, clock } = parts;
  const before = setAsideCondemned(folder, DATABASE_NAME);
  try {
    return { store: openWhole(parts), aside: before };
  } catch (error) {
    if (!(error instanceof DamagedDatabase)) throw error;
    const aside = setAside(folder, DATABASE_NAME, { reason: error.reason, at: timestamp(clock) });
    return { store: openWhole(parts), aside };
  }
}

/** @throws {DamagedDatabase} */
function openWhole({ folder, clock, log, commits }: OpenParts): Store {
  const path = join(folder, DATABASE_NAME);
  const emptied = findEmptied(folder, path);
  if (emptied !== null) throw new DamagedDatabase(path, emptied);
  const lostMark = markWithoutLog(folder, DATABASE_NAME);
  const report = (error: unknown) => log.error({ error }, 'what follows a commit failed');
  const store = new Store(folder, clock, { report, commits });
  const wrong =
    lostMark !== null && store.meta.get('opening') === lostMark
      ? 'its write-ahead log is lost'
      : findBadRow(store);
  if (wrong === null) return store;
  store.close();
  throw new DamagedDatabase(path, wrong);
}

/** SQLite takes an empty file for a new database, and deletes a log that it finds beside one. */
function findEmptied(folder: string, path: string): string | null {
  if (sizeOf(path) > 0) return null;
  if (sizeOf(`${path}-wal`) > 0) return 'it is gone, and its write-ahead log is left';
  return existsSync(path) && isMarked(folder, DATABASE_NAME) ? 'it is empty' : null;
}

/** The first rows of a new database. @returns the node's id */
function begin(store: Store, aside: SetAside | null, parts: OpenParts): string {
  const { folder, clock, newId } = parts;
  const source = aside?.path ?? listSetAside(folder, DATABASE_NAME)[0] ?? null;
  const taken = source === null ? null : salvage(source);
  const known = readNodeId(folder) ?? taken?.nodeId ?? null;
  const nodeId = known ?? newId();
  store.db.transaction(() => {
    store.meta.set('node_id', nodeId);
    store.meta.set('recovery', writeRecoveryNote(noteOf(aside, source, taken, timestamp(clock))));
    if (taken !== null) takeOver(store, taken, timestamp(clock));
    // A node that was here before has told of events; by the clock its next number is a new one.
    if (known !== null || source !== null) store.events.skipTo(Math.max(clock.now(), taken?.lastSeq ?? 0));
  });
  return nodeId;
}

/** A copy that was put back goes on with numbers that were given to other events since it was made. */
function keepOutbox({ db, meta, events: { outbox } }: Store, { newId }: OpenParts): void {
  if (outbox.id !== null && meta.get('opening') !== COPY_OPENING) return;
  db.transaction(() => outbox.renew(newId()));
}

function noteOf(
  aside: SetAside | null,
  source: string | null,
  taken: Salvage | null,
  since: string,
): RecoveryNote {
  return {
    cause: aside === null ? 'new' : 'damaged',
    reason: aside?.reason ?? 'there was no database',
    since,
    setAside: source ?? '',
    names: taken?.names ?? {},
    generations: taken?.generations ?? {},
  };
}

function takeOver(store: Store, { epoch, operations }: Salvage, at: string): void {
  if (epoch > 0) store.meta.set('epoch', epoch);
  for (const operation of operations) insertEnded(store, operation, at);
}

/** What it had still to do is not done on the word of a damaged file: it ends here. */
function insertEnded(store: Store, operation: SalvagedOperation, at: string): void {
  const ended = hasEnded(operation.state);
  store.operations.insert({
    ...operation,
    state: ended ? operation.state : 'failed',
    endedAt: operation.endedAt ?? at,
    startedAt: null,
    cancelRequestedAt: null,
    askedBy: null,
    parentId: null,
    plan: null,
    error: null,
    steps: [],
  });
  const error = ended ? operation.error : interrupted().toBody();
  if (error !== null) store.operations.setError(operation.id, error);
}

function interrupted(): AgentError {
  return new AgentError('INTERNAL', 'The database was lost while this operation was under way', {
    hint: 'Look at what it was about, and ask again with a fresh key.',
  });
}

function keepNodeId(folder: string, nodeId: string): void {
  if (readNodeId(folder) === nodeId) return;
  writeDurably(join(folder, NODE_FILE), `${JSON.stringify({ version: 1, nodeId })}\n`);
  syncFolder(folder);
}

function readNodeId(folder: string): string | null {
  const path = join(folder, NODE_FILE);
  if (!existsSync(path) || sizeOf(path) > NODE_FILE_BYTES_LIMIT) return null;
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return findFault(NodeFile, value) === null ? (value as { nodeId: string }).nodeId : null;
  } catch {
    return null;
  }
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
