/** Rows of shares, and of the instances that have them. */
import { AgentError } from '../../model/errors.ts';
import type { InstanceShare, Share, ShareAccess, ShareUser } from '../../model/share.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export type ShareSettings = Pick<Share, 'name' | 'protected' | 'quotaGib'>;
export type ShareRow = Omit<Share, 'users'>;

/** One instance's way to one share. */
export interface ShareUse {
  instanceId: string;
  shareId: string;
  tag: string;
  access: ShareAccess;
}

export type ShareLink = Pick<ShareUse, 'instanceId' | 'shareId'>;

const SELECT_USES = `
  SELECT share_users.*, shares.name AS share, instances.name AS instance
  FROM share_users JOIN shares ON shares.id = share_id JOIN instances ON instances.id = instance_id`;

export class ShareStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(share: ShareRow): void {
    this.#db.assertTransaction();
    const { id, name, pool, quotaGib, protected: isProtected, state, createdAt } = share;
    this.#db
      .sql(
        'INSERT INTO shares (id, name, pool, quota_gib, protected, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(id, name, pool, quotaGib, Number(isProtected), state, createdAt);
  }

  setState(id: string, state: Share['state']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE shares SET state = ? WHERE id = ?').run(state, id);
  }

  configure(id: string, { name, protected: isProtected, quotaGib }: ShareSettings): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE shares SET name = ?, protected = ?, quota_gib = ? WHERE id = ?')
      .run(name, Number(isProtected), quotaGib, id);
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM shares WHERE id = ?').run(id);
  }

  /** As the last of the instance's shares. */
  attach({ instanceId, shareId, tag, access }: ShareUse): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        `INSERT INTO share_users (instance_id, share_id, position, tag, access)
         SELECT ?, ?, coalesce(max(position), -1) + 1, ?, ? FROM share_users WHERE instance_id = ?`,
      )
      .run(instanceId, shareId, tag, access, instanceId);
  }

  /** Whether it is being taken from the instance: what is defined from now on is without it. */
  setLeaving({ instanceId, shareId }: ShareLink, leaving: boolean): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE share_users SET leaving = ? WHERE instance_id = ? AND share_id = ?')
      .run(Number(leaving), instanceId, shareId);
  }

  detach({ instanceId, shareId }: ShareLink): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM share_users WHERE instance_id = ? AND share_id = ?').run(instanceId, shareId);
  }

  releaseOf(instanceId: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM share_users WHERE instance_id = ?').run(instanceId);
  }

  list(): Share[] {
    const uses = Map.groupBy(this.#uses('ORDER BY instance'), (row) => row['share_id']);
    return this.#db
      .sql('SELECT * FROM shares ORDER BY name')
      .all()
      .map((row) => toShare(row, uses.get(row['id']) ?? []));
  }

  /** In the order in which they were attached. */
  listOf(instanceId: string): InstanceShare[] {
    return this.#uses('WHERE instance_id = ? ORDER BY position', instanceId).map(toInstanceShare);
  }

  /** The same without those that are being taken from it: what its definition has. */
  stayingOf(instanceId: string): InstanceShare[] {
    const rows = this.#uses('WHERE instance_id = ? AND leaving = 0 ORDER BY position', instanceId);
    return rows.map(toInstanceShare);
  }

  /** Those of every instance, by the instance's id. */
  byInstance(): Map<string, InstanceShare[]> {
    const rows = Map.groupBy(this.#uses('ORDER BY position'), (row) => row['instance_id'] as string);
    return new Map([...rows].map(([id, uses]) => [id, uses.map(toInstanceShare)]));
  }

  find(nameOrId: string): Share | null {
    const row = this.#db.sql('SELECT * FROM shares WHERE id = ? OR name = ?').get(nameOrId, nameOrId);
    if (row === undefined) return null;
    return toShare(row, this.#uses('WHERE share_id = ? ORDER BY instance', row['id'] as string));
  }

  /** @throws {AgentError} NOT_FOUND */
  get(nameOrId: string): Share {
    const share = this.find(nameOrId);
    if (share !== null) return share;
    throw new AgentError('NOT_FOUND', `No share ${nameOrId} on this node`, {
      hint: 'List them with `berth share list`.',
    });
  }

  nameTaken(name: string): boolean {
    return this.#db.sql('SELECT 1 AS one FROM shares WHERE name = ?').get(name) !== undefined;
  }

  #uses(rest: string, ...values: string[]): Row[] {
    return this.#db.sql(`${SELECT_USES} ${rest}`).all(...values);
  }
}

function toShare(row: Row, uses: readonly Row[]): Share {
  return {
    id: row['id'] as string,
    name: row['name'] as string,
    pool: row['pool'] as string,
    quotaGib: row['quota_gib'] as number | null,
    protected: row['protected'] === 1,
    state: row['state'] as Share['state'],
    users: uses.map(toUser),
    createdAt: row['created_at'] as string,
  };
}

function toUser(row: Row): ShareUser {
  return {
    instanceId: row['instance_id'] as string,
    instance: row['instance'] as string,
    tag: row['tag'] as string,
    access: row['access'] as ShareAccess,
  };
}

function toInstanceShare(row: Row): InstanceShare {
  return {
    shareId: row['share_id'] as string,
    share: row['share'] as string,
    tag: row['tag'] as string,
    access: row['access'] as ShareAccess,
  };
}
