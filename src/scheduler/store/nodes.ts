/**
 * Nodes as they introduced themselves, with the state that the scheduler last gave them.
 */
import type { Inventory } from '../../model/node.ts';
import type { Database, Row } from '../../sqlite/database.ts';
import { BEFORE_ALL, type Page } from './page.ts';
import { RowCache } from './row-cache.ts';

/** What is heard of it. */
export const NODE_STATES = ['ready', 'lost'] as const;
export type NodeState = (typeof NODE_STATES)[number];
/** What operators want of it. */
export const NODE_SERVICES = ['ready', 'draining', 'maintenance'] as const;
export type NodeService = (typeof NODE_SERVICES)[number];

/** A node without its inventory, which is large. */
export interface NodeBrief {
  id: string;
  hostname: string;
  state: NodeState;
  /** When `state` began, RFC 3339. */
  since: string;
  reason: string;
  service: NodeService;
  /** Since when and why it is not `ready`; null where it is. */
  serviceNote: { since: string; reason: string } | null;
  fence: Fence | null;
}

/** An operator's word that the node runs nothing any more. */
export interface Fence {
  /** How many there were of this node, with this one. */
  number: number;
  at: string;
  by: string;
  reason: string;
}

export interface NodeRow extends NodeBrief {
  version: string;
  inventory: Inventory;
  /** Number of the newest event that is stored; 0 before the first. */
  lastSeq: number;
  registeredAt: string;
}

/** How an inventory came. */
export interface Told {
  /** The node's word for it. @default null: it was asked for, or the node has no such words */
  revision?: string | null;
}

const BRIEF = 'id, hostname, state, since, reason, service, service_note, fence';

export class NodeStore {
  readonly #db: Database;
  /** Looked at with each heartbeat and each placement. */
  readonly #briefs: RowCache<NodeBrief>;

  constructor(db: Database) {
    this.#db = db;
    this.#briefs = new RowCache(db, { all: () => this.#readBriefs(), one: (id) => this.#readBrief(id) });
  }

  get(id: string): NodeRow | null {
    const row = this.#db.sql('SELECT * FROM nodes WHERE id = ?').get(id);
    return row === undefined ? null : toNode(row);
  }

  withHostname(hostname: string): NodeRow[] {
    return this.#db.sql('SELECT * FROM nodes WHERE hostname = ?').all(hostname).map(toNode);
  }

  list({ after = BEFORE_ALL, limit }: Page): NodeRow[] {
    return this.#db.sql('SELECT * FROM nodes WHERE id > ? ORDER BY id LIMIT ?').all(after, limit).map(toNode);
  }

  briefs(): NodeBrief[] {
    return [...this.#briefs.all().values()];
  }

  brief(id: string): NodeBrief | null {
    return this.#briefs.get(id);
  }

  count(): number {
    return this.#briefs.all().size;
  }

  /**
   * Adds the node, or replaces what is known of it, where that is another; its service stays what operators have said.
   *
   * @returns Whether it is another one than before.
   */
  put(node: Omit<NodeRow, 'service' | 'serviceNote' | 'fence'>, { revision = null }: Told = {}): boolean {
    this.#db.assertTransaction();
    this.#briefs.changed(node.id);
    const { changes } = this.#db
      .sql(
        `INSERT INTO nodes (id, hostname, version, inventory, revision, state, since, reason, last_seq,
           registered_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET hostname = excluded.hostname, version = excluded.version,
           inventory = excluded.inventory, revision = excluded.revision, state = excluded.state,
           since = excluded.since, reason = excluded.reason, last_seq = excluded.last_seq
         WHERE (nodes.hostname, nodes.version, nodes.inventory, nodes.revision, nodes.state, nodes.since,
             nodes.reason, nodes.last_seq)
           IS NOT (excluded.hostname, excluded.version, excluded.inventory, excluded.revision,
             excluded.state, excluded.since, excluded.reason, excluded.last_seq)`,
      )
      .run(
        node.id,
        node.hostname,
        node.version,
        JSON.stringify(node.inventory),
        revision,
        node.state,
        node.since,
        node.reason,
        node.lastSeq,
        node.registeredAt,
      );
    return changes > 0;
  }

  /** @returns Whether it is another one than before: what is the same is not written, and its commit costs nothing. */
  setInventory(id: string, inventory: Inventory, { revision = null }: Told = {}): boolean {
    this.#db.assertTransaction();
    this.#briefs.changed(id);
    const text = JSON.stringify(inventory);
    const { changes } = this.#db
      .sql('UPDATE nodes SET inventory = ?, revision = ?, hostname = ? WHERE id = ? AND inventory <> ?')
      .run(text, revision, inventory.hostname, id, text);
    if (changes === 0 && revision !== null) this.#setRevision(id, revision);
    return changes > 0;
  }

  /** The inventory that is stored, as text, where it is one that the node has told by a revision. */
  told(id: string): { revision: string; text: string } | null {
    const row = this.#db.sql('SELECT revision, inventory FROM nodes WHERE id = ?').get(id);
    if (row === undefined || row['revision'] === null) return null;
    return { revision: row['revision'] as string, text: row['inventory'] as string };
  }

  setState(id: string, change: { state: NodeState; since: string; reason: string }): void {
    this.#db.assertTransaction();
    this.#briefs.changed(id);
    this.#db
      .sql('UPDATE nodes SET state = ?, since = ?, reason = ? WHERE id = ?')
      .run(change.state, change.since, change.reason, id);
  }

  setService(id: string, service: NodeService, note: NodeRow['serviceNote']): void {
    this.#db.assertTransaction();
    this.#briefs.changed(id);
    this.#db
      .sql('UPDATE nodes SET service = ?, service_note = ? WHERE id = ?')
      .run(service, note === null ? null : JSON.stringify(note), id);
  }

  /** How many fences of it there were, ever. */
  fences(id: string): number {
    const row = this.#db.sql('SELECT fences FROM nodes WHERE id = ?').get(id);
    return (row?.['fences'] as number | undefined) ?? 0;
  }

  /** A fence takes the next number of the node. */
  setFence(id: string, fence: Omit<Fence, 'number'> | null): void {
    this.#db.assertTransaction();
    this.#briefs.changed(id);
    const number = this.fences(id) + 1;
    if (fence === null) this.#db.sql('UPDATE nodes SET fence = NULL WHERE id = ?').run(id);
    else
      this.#db
        .sql('UPDATE nodes SET fence = ?, fences = ? WHERE id = ?')
        .run(JSON.stringify({ number, ...fence }), number, id);
  }

  /** Number of the newest event that is stored of it; 0 where it is not known. */
  lastSeq(id: string): number {
    const row = this.#db.sql('SELECT last_seq FROM nodes WHERE id = ?').get(id);
    return (row?.['last_seq'] as number | undefined) ?? 0;
  }

  setLastSeq(id: string, seq: number): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE nodes SET last_seq = ? WHERE id = ?').run(seq, id);
  }

  #setRevision(id: string, revision: string): void {
    this.#db
      .sql('UPDATE nodes SET revision = ? WHERE id = ? AND revision IS NOT ?')
      .run(revision, id, revision);
  }

  #readBriefs(): [string, NodeBrief][] {
    return this.#db
      .sql(`SELECT ${BRIEF} FROM nodes`)
      .all()
      .map((row) => [row['id'] as string, toBrief(row)]);
  }

  #readBrief(id: string): NodeBrief | null {
    const row = this.#db.sql(`SELECT ${BRIEF} FROM nodes WHERE id = ?`).get(id);
    return row === undefined ? null : toBrief(row);
  }
}

function toBrief(row: Row): NodeBrief {
  return {
    id: row['id'] as string,
    hostname: row['hostname'] as string,
    state: row['state'] as NodeState,
    since: row['since'] as string,
    reason: row['reason'] as string,
    service: row['service'] as NodeService,
    serviceNote: row['service_note'] === null ? null : JSON.parse(row['service_note'] as string),
    fence: row['fence'] === null ? null : JSON.parse(row['fence'] as string),
  };
}

function toNode(row: Row): NodeRow {
  return {
    ...toBrief(row),
    version: row['version'] as string,
    inventory: JSON.parse(row['inventory'] as string) as Inventory,
    lastSeq: row['last_seq'] as number,
    registeredAt: row['registered_at'] as string,
  };
}
