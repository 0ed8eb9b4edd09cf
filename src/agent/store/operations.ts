/**
 * The journal: rows of operations and of their steps.
 */
import type { ErrorBody } from '../../model/errors.ts';
import { AgentError } from '../../model/errors.ts';
import type {
  Asker,
  ObjectKind,
  Operation,
  OperationState,
  Retry,
  StepProgress,
} from '../../model/operation.ts';
import type { Database, Row } from '../../sqlite/database.ts';

/** Ended operations that are kept; the oldest go first. */
const HISTORY_LIMIT = 5_000;

export type StepState = 'waiting' | 'begun' | 'done' | 'undone';

export interface StepRow {
  position: number;
  name: string;
  state: StepState;
  result: unknown;
  startedAt: string | null;
  endedAt: string | null;
}

export interface OperationRow {
  id: string;
  kind: string;
  version: number;
  target: { kind: ObjectKind; id: string; name: string };
  /** Null for one that an older version has journaled. */
  askedBy: Asker | null;
  state: OperationState;
  key: string | null;
  requestDigest: string;
  /** The operation that this one is a part of. */
  parentId: string | null;
  /** Null once it has ended. */
  plan: unknown;
  error: ErrorBody | null;
  createdAt: string;
  cancelRequestedAt: string | null;
  startedAt: string | null;
  endedAt: string | null;
  steps: StepRow[];
}

export interface OperationFilter {
  state?: OperationState;
  targetKind?: ObjectKind;
  parentId?: string;
  limit: number;
}

export class OperationStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(operation: OperationRow): void {
    this.#db.assertTransaction();
    const { id, kind, version, target, askedBy, state, key } = operation;
    const { requestDigest, parentId, plan, createdAt, startedAt, endedAt } = operation;
    this.#db
      .sql(
        'INSERT INTO operations (id, kind, version, target_kind, target_id, target_name, asked_by, state, key, request_digest, parent_id, plan, created_at, started_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        id,
        kind,
        version,
        target.kind,
        target.id,
        target.name,
        askedBy,
        state,
        key,
        requestDigest,
        parentId,
        JSON.stringify(plan),
        createdAt,
        startedAt,
        endedAt,
      );
    for (const step of operation.steps) {
      this.#db
        .sql('INSERT INTO steps (operation_id, position, name, state, started_at) VALUES (?, ?, ?, ?, ?)')
        .run(id, step.position, step.name, step.state, step.startedAt);
    }
  }

  /** A move to a state in which it goes on. */
  setState(id: string, state: OperationState, startedAt: string): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE operations SET state = ?, started_at = coalesce(started_at, ?) WHERE id = ?')
      .run(state, startedAt, id);
  }

  /** What is left of its plan when a part of it may be forgotten. */
  setPlan(id: string, plan: unknown): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE operations SET plan = ? WHERE id = ?').run(JSON.stringify(plan), id);
  }

  /** Its end. What it was to make, which may hold secrets, is no longer needed. */
  end(id: string, state: OperationState, at: string): void {
    this.#db.assertTransaction();
    this.#db
      .sql("UPDATE operations SET state = ?, ended_at = ?, plan = 'null' WHERE id = ?")
      .run(state, at, id);
  }

  requestCancel(id: string, at: string): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE operations SET cancel_requested_at = ? WHERE id = ?').run(at, id);
  }

  setError(id: string, error: ErrorBody): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE operations SET error = ? WHERE id = ?').run(JSON.stringify(error), id);
  }

  beginStep(id: string, position: number, at: string): void {
    this.#db.assertTransaction();
    this.#db
      .sql("UPDATE steps SET state = 'begun', started_at = ? WHERE operation_id = ? AND position = ?")
      .run(at, id, position);
  }

  endStep(
    id: string,
    position: number,
    outcome: { state: 'done' | 'undone'; result?: unknown; at: string },
  ): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE steps SET state = ?, result = ?, ended_at = ? WHERE operation_id = ? AND position = ?')
      .run(
        outcome.state,
        outcome.result === undefined ? null : JSON.stringify(outcome.result),
        outcome.at,
        id,
        position,
      );
  }

  find(id: string): OperationRow | null {
    const row = this.#db.sql('SELECT * FROM operations WHERE id = ?').get(id);
    return row === undefined ? null : this.#toOperation(row);
  }

  /** @throws {AgentError} NOT_FOUND */
  get(id: string): OperationRow {
    const operation = this.find(id);
    if (operation !== null) return operation;
    throw new AgentError('NOT_FOUND', `No operation ${id}`, {
      hint: 'List them with `berth operation list`.',
    });
  }

  findByKey(key: string): OperationRow | null {
    const row = this.#db.sql('SELECT * FROM operations WHERE key = ?').get(key);
    return row === undefined ? null : this.#toOperation(row);
  }

  /** Oldest first: the order in which they were accepted. */
  unfinished(): OperationRow[] {
    return this.#db
      .sql("SELECT * FROM operations WHERE state IN ('pending', 'running', 'undoing') ORDER BY rowid")
      .all()
      .map((row) => this.#toOperation(row));
  }

  /** What waits or runs for an object. */
  unfinishedOn(target: { kind: ObjectKind; id: string }): { id: string; askedBy: Asker | null }[] {
    return this.#db
      .sql(
        "SELECT id, asked_by FROM operations WHERE state IN ('pending', 'running', 'undoing') AND target_kind = ? AND target_id = ? ORDER BY rowid",
      )
      .all(target.kind, target.id)
      .map((row) => ({ id: row['id'] as string, askedBy: row['asked_by'] as Asker | null }));
  }

  countUnfinishedOf(asker: Asker): number {
    return this.#db
      .sql(
        "SELECT count(*) AS n FROM operations WHERE state IN ('pending', 'running', 'undoing') AND asked_by = ?",
      )
      .get(asker)?.['n'] as number;
  }

  /** How the newest one of these methods on an object has ended; null where there is none in the history. */
  lastEndedState(
    target: { kind: ObjectKind; id: string },
    methods: readonly string[],
  ): OperationState | null {
    const row = this.#db
      .sql(
        'SELECT state FROM operations WHERE ended_at IS NOT NULL AND target_kind = ? AND target_id = ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY rowid DESC LIMIT 1',
      )
      .get(target.kind, target.id, JSON.stringify(methods));
    return (row?.['state'] as OperationState | undefined) ?? null;
  }

  /** Whether anything waits or runs for an object. */
  isBusy(target: { kind: ObjectKind; id: string }): boolean {
    return this.unfinishedOn(target).length > 0;
  }

  /** The parts of an operation, oldest first. */
  childrenOf(id: string): OperationRow[] {
    return this.#db
      .sql('SELECT * FROM operations WHERE parent_id = ? ORDER BY rowid')
      .all(id)
      .map((row) => this.#toOperation(row));
  }

  countChildren(id: string): Operation['children'] {
    const row = this.#db
      .sql('SELECT count(*) AS total, count(ended_at) AS ended FROM operations WHERE parent_id = ?')
      .get(id);
    return { total: row?.['total'] as number, ended: row?.['ended'] as number };
  }

  /** Newest first. */
  list(filter: OperationFilter): OperationRow[] {
    const parent = filter.parentId === undefined ? '' : 'parent_id = ? AND ';
    return this.#db
      .sql(
        `SELECT * FROM operations WHERE ${parent}state = coalesce(?, state) AND target_kind = coalesce(?, target_kind) ORDER BY rowid DESC LIMIT ?`,
      )
      .all(
        ...(filter.parentId === undefined ? [] : [filter.parentId]),
        filter.state ?? null,
        filter.targetKind ?? null,
        filter.limit,
      )
      .map((row) => this.#toOperation(row));
  }

  count(state: OperationState): number {
    return this.#db.sql('SELECT count(*) AS n FROM operations WHERE state = ?').get(state)?.['n'] as number;
  }

  /** Parts stay for as long as the whole goes on: it finds them again by their keys after a restart. */
  trim(): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        `DELETE FROM operations WHERE ended_at IS NOT NULL AND rowid <= (SELECT max(rowid) FROM operations) - ?
         AND (parent_id IS NULL OR parent_id NOT IN (SELECT id FROM operations WHERE state IN ('pending', 'running', 'undoing')))`,
      )
      .run(HISTORY_LIMIT);
  }

  #toOperation(row: Row): OperationRow {
    const id = row['id'] as string;
    return {
      id,
      kind: row['kind'] as string,
      version: row['version'] as number,
      target: {
        kind: row['target_kind'] as ObjectKind,
        id: row['target_id'] as string,
        name: row['target_name'] as string,
      },
      askedBy: row['asked_by'] as Asker | null,
      state: row['state'] as OperationState,
      key: row['key'] as string | null,
      requestDigest: row['request_digest'] as string,
      parentId: row['parent_id'] as string | null,
      plan: JSON.parse(row['plan'] as string),
      error: row['error'] === null ? null : JSON.parse(row['error'] as string),
      createdAt: row['created_at'] as string,
      cancelRequestedAt: row['cancel_requested_at'] as string | null,
      startedAt: row['started_at'] as string | null,
      endedAt: row['ended_at'] as string | null,
      steps: this.#db.sql('SELECT * FROM steps WHERE operation_id = ? ORDER BY position').all(id).map(toStep),
    };
  }
}

function toStep(row: Row): StepRow {
  return {
    position: row['position'] as number,
    name: row['name'] as string,
    state: row['state'] as StepState,
    result: row['result'] === null ? undefined : JSON.parse(row['result'] as string),
    startedAt: row['started_at'] as string | null,
    endedAt: row['ended_at'] as string | null,
  };
}

/** What is told of an operation besides its row. */
export interface Told {
  /** How far the steps under way have come. */
  progress: StepProgress | null;
  retry: Retry | null;
  children: Operation['children'];
}

/** How callers see an operation. */
export function viewOf(row: OperationRow, { progress: stepProgress, retry, children }: Told): Operation {
  const done = row.steps.filter((step) => step.state === 'done').length;
  const begun = row.steps.find((step) => step.state === 'begun');
  const share =
    row.steps.length === 0
      ? 1
      : (done + (begun === undefined ? 0 : (stepProgress?.percent ?? 0) / 100)) / row.steps.length;
  return {
    id: row.id,
    kind: row.kind,
    target: row.target,
    askedBy: row.askedBy,
    state: row.state,
    progress: {
      step: begun?.name ?? null,
      percent: row.state === 'succeeded' ? 100 : Math.floor(share * 100),
      phase: stepProgress?.phase ?? null,
      bytes: stepProgress?.bytes ?? null,
    },
    steps: row.steps.map(({ name, state, startedAt, endedAt }) => ({ name, state, startedAt, endedAt })),
    error: row.error,
    retry,
    parentId: row.parentId,
    children,
    createdAt: row.createdAt,
    cancelRequestedAt: row.cancelRequestedAt,
    startedAt: row.startedAt,
    endedAt: row.endedAt,
  };
}
