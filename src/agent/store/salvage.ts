/**
 * What is taken over from a database that was set aside: little, and only what is proven.
 *
 * Taken are the node's id, the epoch and the newest event's number, so that nothing that was fenced off or
 * acknowledged comes again; idempotency keys with their operations, so that a repeat is still a repeat;
 * generations, as lower bounds; and names that people gave. All else is the host's to tell. A row counts only
 * if its seal is whole and it fits its schema. Tables are read from both ends, so that a broken page costs
 * what is on it. Nothing here writes to the file.
 */
import Sqlite from 'better-sqlite3';
import { Id, Name } from '../../model/common.ts';
import type { ErrorBody } from '../../model/errors.ts';
import { ErrorBodySchema, hasEnded, OBJECT_KINDS, OPERATION_STATES } from '../../model/operation.ts';
import type { ObjectKind, OperationState } from '../../model/operation.ts';
import { Type, type TSchema } from '../../model/schema.ts';
import { VolumeName } from '../../model/storage.ts';
import { findFault } from '../../model/validate.ts';
import { defineSeal, intactRows } from '../../sqlite/seals.ts';
import { SEQ_LIMIT } from './events.ts';
import { parseRecoveryNote } from './recovery-note.ts';

/** Rows read of one table; a table has fewer, or lies. */
const ROWS_LIMIT = 20_000;

type Row = Record<string, unknown>;

/** An operation whose key may be used again. */
export interface SalvagedOperation {
  id: string;
  kind: string;
  version: number;
  target: { kind: ObjectKind; id: string; name: string };
  state: OperationState;
  key: string;
  requestDigest: string;
  error: ErrorBody | null;
  createdAt: string;
  endedAt: string | null;
}

export interface Salvage {
  nodeId: string | null;
  epoch: number;
  lastSeq: number;
  /** In the order in which they were accepted. */
  operations: SalvagedOperation[];
  /** Names that people gave to images, volumes, shares and networks, by id. */
  names: Record<string, string>;
  /** Generations of instances, by id. */
  generations: Record<string, number>;
}

/** Reads what can be taken over; nothing where the file can't be read at all. */
export function salvage(path: string): Salvage {
  const found = nothing();
  let sqlite: Sqlite.Database | null = null;
  try {
    sqlite = new Sqlite(path, { readonly: true, fileMustExist: true });
    // Else a file that is shorter than its header says is not read at all. @see lockBtree, btree.c
    sqlite.unsafeMode().pragma('writable_schema = ON');
    defineSeal(sqlite);
    take(sqlite, found);
  } catch {
    // What was read until here is good; that the rest can't be read is why the file was set aside.
  } finally {
    sqlite?.close();
  }
  return found;
}

function take(sqlite: Sqlite.Database, found: Salvage): void {
  const meta = new Map(rowsOf(sqlite, 'meta').map(({ key, value }) => [key, String(value)]));
  const nodeId = meta.get('node_id');
  found.nodeId = fits(Id, nodeId) ? (nodeId as string) : null;
  found.epoch = counter(meta.get('epoch'), Number.MAX_SAFE_INTEGER);
  found.lastSeq = Math.max(counter(meta.get('acknowledged_seq'), SEQ_LIMIT), lastSeqOf(sqlite));
  const earlier = parseRecoveryNote(meta.get('recovery') ?? null);
  Object.assign(found.names, earlier?.names);
  Object.assign(found.generations, earlier?.generations);
  found.operations = rowsOf(sqlite, 'operations').flatMap(toOperation);
  for (const table of ['images', 'networks', 'volumes', 'shares']) {
    const schema = table === 'volumes' ? VolumeName : Name;
    for (const { id, name } of rowsOf(sqlite, table)) {
      if (fits(Id, id) && fits(schema, name)) found.names[id as string] = name as string;
    }
  }
  for (const { id, generation } of rowsOf(sqlite, 'instances')) {
    if (fits(Id, id)) found.generations[id as string] = counter(generation, Number.MAX_SAFE_INTEGER);
  }
}

function nothing(): Salvage {
  return { nodeId: null, epoch: 0, lastSeq: 0, operations: [], names: {}, generations: {} };
}

/** Rows with a whole seal, from the table's beginning to where it breaks, and from its end. */
function rowsOf(sqlite: Sqlite.Database, table: string): Row[] {
  const rows = new Map<string, Row>();
  for (const order of ['ASC', 'DESC'] as const) {
    for (const row of readUntilBroken(sqlite, table, order)) rows.set(String(row['key'] ?? row['id']), row);
  }
  return [...rows.values()];
}

function readUntilBroken(sqlite: Sqlite.Database, table: string, order: 'ASC' | 'DESC'): Row[] {
  const rows: Row[] = [];
  try {
    const intact = intactRows(sqlite, table);
    if (intact === null) return [];
    const place = table === 'meta' ? 'key' : 'rowid';
    const query = `SELECT * FROM ${table} WHERE ${intact} ORDER BY ${place} ${order} LIMIT ${ROWS_LIMIT}`;
    for (const row of sqlite.prepare(query).iterate()) rows.push(row as Row);
  } catch {
    // The rest of it, in this direction, is on broken pages.
  }
  return order === 'ASC' ? rows : rows.reverse();
}

/** The highest number that is told anywhere; an event's number needs no seal, since too high is as good. */
function lastSeqOf(sqlite: Sqlite.Database): number {
  const questions = [
    "SELECT seq FROM sqlite_sequence WHERE name = 'events'",
    'SELECT max(seq) AS seq FROM events',
  ];
  return Math.max(...questions.map((question) => seqFrom(sqlite, question)));
}

function seqFrom(sqlite: Sqlite.Database, question: string): number {
  try {
    return counter((sqlite.prepare(question).get() as Row | undefined)?.['seq'], SEQ_LIMIT);
  } catch {
    return 0;
  }
}

const Text = Type.String({ minLength: 1, maxLength: 1024 });
const OPERATION_FIELDS: Record<string, TSchema> = {
  id: Id,
  kind: Text,
  version: Type.Integer({ minimum: 1 }),
  target_kind: Type.Enum([...OBJECT_KINDS]),
  target_id: Id,
  target_name: Text,
  state: Type.Enum([...OPERATION_STATES]),
  key: Type.String({ pattern: '^[\\x21-\\x7e]{1,128}$' }),
  request_digest: Text,
  created_at: Text,
};

/** None where it has no key: nobody can repeat it. */
function toOperation(row: Row): SalvagedOperation[] {
  if (Object.entries(OPERATION_FIELDS).some(([field, schema]) => !fits(schema, row[field]))) return [];
  const state = row['state'] as OperationState;
  const error = parsedError(row['error']);
  return [
    {
      id: row['id'] as string,
      kind: row['kind'] as string,
      version: row['version'] as number,
      target: {
        kind: row['target_kind'] as ObjectKind,
        id: row['target_id'] as string,
        name: row['target_name'] as string,
      },
      state,
      key: row['key'] as string,
      requestDigest: row['request_digest'] as string,
      error,
      createdAt: row['created_at'] as string,
      endedAt: hasEnded(state) ? String(row['ended_at']) : null,
    },
  ];
}

function parsedError(text: unknown): ErrorBody | null {
  try {
    const value: unknown = JSON.parse(String(text));
    return fits(ErrorBodySchema, value) ? (value as ErrorBody) : null;
  } catch {
    return null;
  }
}

function counter(value: unknown, limit: number): number {
  const number = Number(value);
  return Number.isSafeInteger(number) && number > 0 && number <= limit ? number : 0;
}

function fits(schema: TSchema, value: unknown): boolean {
  return value !== undefined && findFault(schema, value) === null;
}
