/**
 * The embedded engine: inventories and claims in the scheduler's own SQLite database, for one scheduler.
 *
 * What a node says is free is the truth; from it is taken what was claimed here and is not yet in the node's own count.
 * A claim is one transaction that looks and writes, so it needs no lock beside the database's. Who is a candidate is told from
 * memory: to look at every node in the database takes milliseconds of each create.
 */
import { AgentError } from '../../model/errors.ts';
import type { Database, Row } from '../../sqlite/database.ts';
import { RowCache } from '../store/row-cache.ts';
import { type Amounts, freeOf, misfit, shortage } from './amounts.ts';
import type { Candidate, Claim, Engine, EngineRefusal, EngineRequest, NodeReport } from './engine.ts';

/** Free less what is claimed and not counted, by node and class. */
const ROOM = `
  SELECT stock.node_id, stock.class, stock.free - coalesce(sum(claims.amount), 0) AS room
  FROM engine_stock AS stock
  LEFT JOIN engine_claims AS claims
    ON claims.node_id = stock.node_id AND claims.class = stock.class AND claims.counted = 0`;

interface NodeRow {
  isOpen: boolean;
  traits: ReadonlySet<string>;
  room: Amounts;
}

export class EmbeddedEngine implements Engine {
  readonly name = 'embedded';
  readonly #db: Database;
  readonly #nodes: RowCache<NodeRow>;

  constructor(db: Database) {
    this.#db = db;
    this.#nodes = new RowCache(db, { all: () => this.#readNodes(), one: (nodeId) => this.#readNode(nodeId) });
  }

  readonly within = {
    candidates: (request: EngineRequest): Candidate[] => this.#candidates(request),
    report: (node: NodeReport): void => this.#report(node),
    claim: (claim: Claim): boolean => this.#claimNew(claim),
  };

  async report(node: NodeReport): Promise<void> {
    this.#db.transaction(() => this.#report(node));
  }

  async candidates(request: EngineRequest): Promise<Candidate[]> {
    return this.#candidates(request);
  }

  #candidates(request: EngineRequest): Candidate[] {
    const found: Candidate[] = [];
    for (const [nodeId, node] of this.#asked(request)) {
      if (refusalOf(request, node) === null) found.push({ nodeId, room: node.room });
    }
    return found;
  }

  async whyNot(request: EngineRequest, nodeIds: readonly string[]): Promise<EngineRefusal[]> {
    const nodes = this.#nodes.all();
    return nodeIds.flatMap((nodeId) => {
      const refusal = refusalOf(request, nodes.get(nodeId));
      return refusal === null ? [] : [{ nodeId, ...refusal }];
    });
  }

  async claim({ consumer, nodeId, amounts }: Claim): Promise<void> {
    this.#db.transaction(() => {
      if (!this.#isKnown(nodeId))
        throw new AgentError('NOT_FOUND', `Node ${nodeId} has not told what it has`);
      this.#drop(consumer);
      const short = shortage(amounts, this.#roomAt(nodeId));
      if (short !== null) throw new AgentError('CAPACITY_EXCEEDED', `No room on node ${nodeId}: ${short}`);
      for (const [name, amount] of Object.entries(amounts)) this.#add({ consumer, nodeId }, name, amount);
    });
  }

  async release(consumer: string): Promise<void> {
    this.#db.transaction(() => this.#drop(consumer));
  }

  async consumersOf(nodeId: string): Promise<string[]> {
    return this.#db
      .sql('SELECT DISTINCT consumer FROM engine_claims WHERE node_id = ?')
      .all(nodeId)
      .map((row) => row['consumer'] as string);
  }

  #report(node: NodeReport): void {
    this.#db.assertTransaction();
    this.#nodes.changed(node.nodeId);
    this.#putNode(node);
    this.#putStock(node);
    for (const { consumer, nodeId } of node.counted) this.#count(consumer, nodeId);
  }

  /** Only where there is room, and nothing before it that would have to be given back. */
  #claimNew({ consumer, nodeId, amounts }: Claim): boolean {
    this.#db.assertTransaction();
    const before = this.#db.sql('SELECT 1 FROM engine_claims WHERE consumer = ?').get(consumer);
    if (before !== undefined || shortage(amounts, this.#roomAt(nodeId)) !== null) return false;
    for (const [name, amount] of Object.entries(amounts)) this.#add({ consumer, nodeId }, name, amount);
    return true;
  }

  #putNode({ nodeId, isOpen, traits }: NodeReport): void {
    this.#db
      .sql(
        `INSERT INTO engine_nodes (node_id, is_open, traits) VALUES (?, ?, ?)
         ON CONFLICT (node_id) DO UPDATE SET is_open = excluded.is_open, traits = excluded.traits
         WHERE is_open <> excluded.is_open OR traits <> excluded.traits`,
      )
      .run(nodeId, isOpen ? 1 : 0, JSON.stringify(traits));
  }

  /** Most reports say what is known: that is not written, and its commit costs nothing. */
  #putStock({ nodeId, stock }: NodeReport): void {
    const free = new Map(Object.entries(stock).map(([name, each]) => [name, freeOf(each)]));
    const rows = this.#db.sql('SELECT class, free FROM engine_stock WHERE node_id = ?').all(nodeId);
    const isSame =
      rows.length === free.size && rows.every((row) => free.get(row['class'] as string) === row['free']);
    if (isSame) return;
    this.#db.sql('DELETE FROM engine_stock WHERE node_id = ?').run(nodeId);
    const insert = this.#db.sql('INSERT INTO engine_stock (node_id, class, free) VALUES (?, ?, ?)');
    for (const [name, amount] of free) insert.run(nodeId, name, amount);
  }

  /** The node's own count has it: it is taken from the room once, not twice. */
  #count(consumer: string, nodeId: string): void {
    this.#nodes.changed(nodeId);
    this.#db
      .sql('UPDATE engine_claims SET counted = 1 WHERE consumer = ? AND node_id = ? AND counted = 0')
      .run(consumer, nodeId);
  }

  #drop(consumer: string): void {
    const gone = this.#db.sql('DELETE FROM engine_claims WHERE consumer = ? RETURNING node_id').all(consumer);
    for (const row of gone) this.#nodes.changed(row['node_id'] as string);
  }

  #add({ consumer, nodeId }: { consumer: string; nodeId: string }, name: string, amount: number): void {
    this.#nodes.changed(nodeId);
    this.#db
      .sql('INSERT INTO engine_claims (consumer, class, node_id, amount, counted) VALUES (?, ?, ?, ?, 0)')
      .run(consumer, name, nodeId, amount);
  }

  #isKnown(nodeId: string): boolean {
    return this.#db.sql('SELECT 1 FROM engine_nodes WHERE node_id = ?').get(nodeId) !== undefined;
  }

  #asked({ nodeId }: EngineRequest): Iterable<[string, NodeRow]> {
    if (nodeId === null) return this.#nodes.all();
    const node = this.#nodes.get(nodeId);
    return node === null ? [] : [[nodeId, node]];
  }

  #readNodes(): [string, NodeRow][] {
    const rooms = this.#rooms();
    return this.#db
      .sql('SELECT * FROM engine_nodes')
      .all()
      .map((row) => [row['node_id'] as string, toNode(row, rooms.get(row['node_id'] as string) ?? {})]);
  }

  #readNode(nodeId: string): NodeRow | null {
    const row = this.#db.sql('SELECT * FROM engine_nodes WHERE node_id = ?').get(nodeId);
    return row === undefined ? null : toNode(row, this.#roomAt(nodeId));
  }

  #rooms(): Map<string, Amounts> {
    const rooms = new Map<string, Record<string, number>>();
    for (const row of this.#db.sql(`${ROOM} GROUP BY stock.node_id, stock.class`).all()) {
      const nodeId = row['node_id'] as string;
      const room = rooms.get(nodeId) ?? {};
      room[row['class'] as string] = row['room'] as number;
      rooms.set(nodeId, room);
    }
    return rooms;
  }

  #roomAt(nodeId: string): Amounts {
    const rows = this.#db.sql(`${ROOM} WHERE stock.node_id = ? GROUP BY stock.class`).all(nodeId);
    return Object.fromEntries(rows.map((row) => [row['class'] as string, row['room'] as number]));
  }
}

function toNode(row: Row, room: Amounts): NodeRow {
  const traits = new Set<string>(JSON.parse(row['traits'] as string));
  return { isOpen: row['is_open'] === 1, traits, room };
}

/** Null where the node is a candidate. */
function refusalOf(
  request: EngineRequest,
  node: NodeRow | undefined,
): Pick<EngineRefusal, 'code' | 'reason'> | null {
  if (node === undefined) return { code: 'UNAVAILABLE', reason: 'it has not told what it has' };
  if (!node.isOpen) return { code: 'UNAVAILABLE', reason: 'it takes no new instances' };
  const wrong = misfit(request, node.traits);
  if (wrong !== null) return { code: 'UNSUPPORTED', reason: wrong };
  const short = shortage(request.amounts, node.room);
  return short === null ? null : { code: 'CAPACITY_EXCEEDED', reason: short };
}
