/**
 * The journal of commands: what was asked over HTTP and is sent to a node until it answers.
 *
 * A command's id is the idempotency key that the node sees. The key of the caller finds it again, so that a
 * repeat gets the first answer.
 */
import type { ErrorBody } from '../../model/errors.ts';
import type { Database, Row } from '../../sqlite/database.ts';
import type { Refusal } from '../placement/refusals.ts';

export const COMMAND_METHODS = [
  'instance.create',
  'instance.takeover',
  'instance.start',
  'instance.stop',
  'instance.reboot',
  'instance.delete',
] as const;
export type CommandMethod = (typeof COMMAND_METHODS)[number];

/** Those after which a node has an instance that it had not before. */
const BRINGING: readonly string[] = ['instance.create', 'instance.takeover'];

export function bringsInstance(method: string): boolean {
  return BRINGING.includes(method);
}

export type CommandState = 'dispatching' | 'accepted' | 'refused';

export interface CommandRow {
  id: string;
  /** Idempotency key of the caller; null where none was given. */
  clientKey: string | null;
  /** Tells whether a repeat of the key asks for the same. */
  digest: string;
  method: CommandMethod;
  /** Parameters of the method, without key and epoch. */
  params: Record<string, unknown>;
  nodeId: string;
  instanceId: string;
  /** The caller chose the node: no other is tried. */
  pinned: boolean;
  state: CommandState;
  operationId: string | null;
  /** What the caller is told, once settled: the body of the answer, or the error. */
  answer: { body: unknown } | { error: ErrorBody } | null;
  /** Nodes that refused it so far. */
  refusals: Refusal[];
  /** Of an instance that is restarted elsewhere: where it was, and the shared pools that it needs. */
  origin: { nodeId: string; pools: string[] } | null;
}

export class CommandStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(id: string): CommandRow | null {
    return one(this.#db.sql('SELECT * FROM commands WHERE id = ?').get(id));
  }

  withClientKey(key: string): CommandRow | null {
    return one(this.#db.sql('SELECT * FROM commands WHERE client_key = ?').get(key));
  }

  /** Commands that the node has not answered, oldest first; those whose room is not claimed yet wait. */
  unanswered(nodeId: string): CommandRow[] {
    return this.#db
      .sql(
        `SELECT * FROM commands WHERE node_id = ? AND state = 'dispatching' AND NOT (
           method IN ('instance.create', 'instance.takeover') AND EXISTS
             (SELECT 1 FROM claims WHERE consumer = commands.instance_id AND claims.state = 'wanted'))
         ORDER BY created_ms, rowid`,
      )
      .all(nodeId)
      .map(toCommand);
  }

  /** Commands to the instance that no node has answered. */
  unansweredOf(instanceId: string): CommandRow[] {
    return this.#db
      .sql("SELECT * FROM commands WHERE instance_id = ? AND state = 'dispatching'")
      .all(instanceId)
      .map(toCommand);
  }

  /** The creation of the instance that is under way; null where there is none. */
  creating(instanceId: string): CommandRow | null {
    return one(
      this.#db
        .sql(
          "SELECT * FROM commands WHERE instance_id = ? AND method IN ('instance.create', 'instance.takeover') AND state = 'dispatching'",
        )
        .get(instanceId),
    );
  }

  /** Where an instance was before the command that an operation is of has brought it elsewhere; null where it was nowhere. */
  originOf(operationId: string): CommandRow['origin'] {
    return (
      one(this.#db.sql('SELECT * FROM commands WHERE operation_id = ?').get(operationId))?.origin ?? null
    );
  }

  /** Number of commands that each node has not answered. */
  unansweredByNode(): Map<string, number> {
    const rows = this.#db
      .sql("SELECT node_id, count(*) AS n FROM commands WHERE state = 'dispatching' GROUP BY node_id")
      .all();
    return new Map(rows.map((row) => [row['node_id'] as string, row['n'] as number]));
  }

  countUnanswered(nodeId: string): number {
    return this.#db
      .sql("SELECT count(*) AS n FROM commands WHERE node_id = ? AND state = 'dispatching'")
      .get(nodeId)?.['n'] as number;
  }

  /** Whether a node has accepted to delete the instance, for as long as that command is kept. */
  hasDeleted(instanceId: string): boolean {
    const text =
      "SELECT 1 FROM commands WHERE instance_id = ? AND method = 'instance.delete' AND state = 'accepted'";
    return this.#db.sql(text).get(instanceId) !== undefined;
  }

  add(command: CommandRow, nowMs: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        `INSERT INTO commands
           (id, client_key, digest, method, params, node_id, instance_id, pinned, state, refusals, origin, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'dispatching', ?, ?, ?)`,
      )
      .run(
        command.id,
        command.clientKey,
        command.digest,
        command.method,
        JSON.stringify(command.params),
        command.nodeId,
        command.instanceId,
        command.pinned ? 1 : 0,
        JSON.stringify(command.refusals),
        command.origin === null ? null : JSON.stringify(command.origin),
        nowMs,
      );
  }

  /** Turns an unanswered command to another node. */
  redirect(id: string, change: { nodeId: string; refusals: Refusal[] }): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE commands SET node_id = ?, refusals = ? WHERE id = ?')
      .run(change.nodeId, JSON.stringify(change.refusals), id);
  }

  settle(
    id: string,
    outcome: { state: 'accepted' | 'refused'; operationId: string | null; answer: CommandRow['answer'] },
    nowMs: number,
  ): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE commands SET state = ?, operation_id = ?, answer = ?, settled_ms = ? WHERE id = ?')
      .run(outcome.state, outcome.operationId, JSON.stringify(outcome.answer), nowMs, id);
  }

  /** Deletes those settled before `beforeMs`: their keys are free again. */
  prune(beforeMs: number, rows: number): number {
    this.#db.assertTransaction();
    return this.#db
      .sql('DELETE FROM commands WHERE rowid IN (SELECT rowid FROM commands WHERE settled_ms < ? LIMIT ?)')
      .run(beforeMs, rows).changes;
  }
}

function one(row: Row | undefined): CommandRow | null {
  return row === undefined ? null : toCommand(row);
}

function toCommand(row: Row): CommandRow {
  return {
    id: row['id'] as string,
    clientKey: row['client_key'] as string | null,
    digest: row['digest'] as string,
    method: row['method'] as CommandMethod,
    params: JSON.parse(row['params'] as string),
    nodeId: row['node_id'] as string,
    instanceId: row['instance_id'] as string,
    pinned: row['pinned'] === 1,
    state: row['state'] as CommandState,
    operationId: row['operation_id'] as string | null,
    answer: row['answer'] === null ? null : JSON.parse(row['answer'] as string),
    refusals: JSON.parse(row['refusals'] as string),
    origin: row['origin'] === null ? null : JSON.parse(row['origin'] as string),
  };
}
