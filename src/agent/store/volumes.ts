/** Rows of volumes. */
import { AgentError } from '../../model/errors.ts';
import type { Volume } from '../../model/storage.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export class VolumeStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @param position Place among the disks of its instance, from 0; null without one. */
  insert(volume: Volume, position: number | null): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO volumes (id, name, pool, size_gib, image_id, instance_id, position, deleted_with_instance, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        volume.id,
        volume.name,
        volume.pool,
        volume.sizeGib,
        volume.imageId,
        volume.instanceId,
        position,
        Number(volume.deletedWithInstance),
        volume.state,
        volume.createdAt,
      );
  }

  setState(id: string, state: Volume['state']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE volumes SET state = ? WHERE id = ?').run(state, id);
  }

  attach(id: string, instanceId: string, position: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE volumes SET instance_id = ?, position = ? WHERE id = ?')
      .run(instanceId, position, id);
  }

  /** Lets go of the volumes that outlive the instance, and forgets the others. */
  releaseOf(instanceId: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM volumes WHERE instance_id = ? AND deleted_with_instance = 1').run(instanceId);
    this.#db
      .sql('UPDATE volumes SET instance_id = NULL, position = NULL WHERE instance_id = ?')
      .run(instanceId);
  }

  setReadyOf(instanceId: string): void {
    this.#db.assertTransaction();
    this.#db.sql("UPDATE volumes SET state = 'ready' WHERE instance_id = ?").run(instanceId);
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM volumes WHERE id = ?').run(id);
  }

  list(): Volume[] {
    return this.#db.sql('SELECT * FROM volumes ORDER BY name').all().map(toVolume);
  }

  /** In boot order. */
  listOf(instanceId: string): Volume[] {
    return this.#db
      .sql('SELECT * FROM volumes WHERE instance_id = ? ORDER BY position')
      .all(instanceId)
      .map(toVolume);
  }

  /** Those of every instance, in boot order, by the instance's id. */
  byInstance(): Map<string, Volume[]> {
    const rows = this.#db.sql('SELECT * FROM volumes WHERE instance_id IS NOT NULL ORDER BY position').all();
    return Map.groupBy(rows.map(toVolume), ({ instanceId }) => instanceId as string);
  }

  countOn(imageId: string): number {
    return this.#db.sql('SELECT count(*) AS n FROM volumes WHERE image_id = ?').get(imageId)?.['n'] as number;
  }

  /** Instances with a volume on the image. */
  instancesOn(imageId: string): string[] {
    return this.#db
      .sql('SELECT DISTINCT instance_id AS id FROM volumes WHERE image_id = ? AND instance_id IS NOT NULL')
      .all(imageId)
      .map((row) => row['id'] as string);
  }

  find(nameOrId: string): Volume | null {
    const row = this.#db.sql('SELECT * FROM volumes WHERE id = ? OR name = ?').get(nameOrId, nameOrId);
    return row === undefined ? null : toVolume(row);
  }

  /** @throws {AgentError} NOT_FOUND */
  get(nameOrId: string): Volume {
    const volume = this.find(nameOrId);
    if (volume !== null) return volume;
    throw new AgentError('NOT_FOUND', `No volume ${nameOrId} on this node`, {
      hint: 'List them with `berth volume list`.',
    });
  }

  nameTaken(name: string): boolean {
    return this.#db.sql('SELECT 1 AS one FROM volumes WHERE name = ?').get(name) !== undefined;
  }
}

function toVolume(row: Row): Volume {
  return {
    id: row['id'] as string,
    name: row['name'] as string,
    pool: row['pool'] as string,
    sizeGib: row['size_gib'] as number,
    imageId: row['image_id'] as string | null,
    instanceId: row['instance_id'] as string | null,
    deletedWithInstance: row['deleted_with_instance'] === 1,
    state: row['state'] as Volume['state'],
    createdAt: row['created_at'] as string,
  };
}
