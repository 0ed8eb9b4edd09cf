/** Rows of volumes. */
import { AgentError } from '../../model/errors.ts';
import type { DiskDevice } from '../../model/disk.ts';
import type { Volume } from '../../model/storage.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export type VolumeSettings = Pick<Volume, 'name' | 'protected' | 'qos'>;

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
        'INSERT INTO volumes (id, name, pool, size_gib, image_id, instance_id, position, deleted_with_instance, protected, device, qos, encryption_key, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
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
        Number(volume.protected),
        JSON.stringify(volume.device),
        volume.qos === null ? null : JSON.stringify(volume.qos),
        volume.encryption?.key ?? null,
        volume.state,
        volume.createdAt,
      );
  }

  setState(id: string, state: Volume['state']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE volumes SET state = ? WHERE id = ?').run(state, id);
  }

  setSize(id: string, sizeGib: number): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE volumes SET size_gib = ? WHERE id = ?').run(sizeGib, id);
  }

  /** It stands on no image any more. */
  setFlat(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE volumes SET image_id = NULL WHERE id = ?').run(id);
  }

  /** What one turned out to be that was another node's. */
  setTaken(
    id: string,
    taken: Pick<Volume, 'sizeGib' | 'createdAt' | 'deletedWithInstance' | 'protected' | 'encryption'>,
  ): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'UPDATE volumes SET size_gib = ?, created_at = ?, deleted_with_instance = ?, protected = ?, encryption_key = ? WHERE id = ?',
      )
      .run(
        taken.sizeGib,
        taken.createdAt,
        Number(taken.deletedWithInstance),
        Number(taken.protected),
        taken.encryption?.key ?? null,
        id,
      );
  }

  setEncryption(id: string, encryption: Volume['encryption']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE volumes SET encryption_key = ? WHERE id = ?').run(encryption?.key ?? null, id);
  }

  setDevice(id: string, device: DiskDevice): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE volumes SET device = ? WHERE id = ?').run(JSON.stringify(device), id);
  }

  /** What its user may change of it at any time. */
  configure(id: string, settings: VolumeSettings): void {
    this.#db.assertTransaction();
    const { name, protected: isProtected, qos } = settings;
    this.#db
      .sql('UPDATE volumes SET name = ?, protected = ?, qos = ? WHERE id = ?')
      .run(name, Number(isProtected), qos === null ? null : JSON.stringify(qos), id);
  }

  attach(id: string, instanceId: string, position: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE volumes SET instance_id = ?, position = ? WHERE id = ?')
      .run(instanceId, position, id);
  }

  detach(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE volumes SET instance_id = NULL, position = NULL WHERE id = ?').run(id);
  }

  /** Its place among the disks of its instance; null without one. The first one boots. */
  positionOf(id: string): number | null {
    const row = this.#db.sql('SELECT position FROM volumes WHERE id = ?').get(id);
    return (row?.['position'] ?? null) as number | null;
  }

  /** The first place among the disks of an instance that no disk has. */
  freePosition(instanceId: string): number {
    const rows = this.#db.sql('SELECT position FROM volumes WHERE instance_id = ?').all(instanceId);
    const taken = new Set(rows.map((row) => row['position']));
    let position = 0;
    while (taken.has(position)) position++;
    return position;
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

  countIn(pool: string): number {
    return this.#db.sql('SELECT count(*) AS n FROM volumes WHERE pool = ?').get(pool)?.['n'] as number;
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
    protected: row['protected'] === 1,
    device: JSON.parse(row['device'] as string),
    qos: row['qos'] === null ? null : JSON.parse(row['qos'] as string),
    encryption: row['encryption_key'] === null ? null : { key: row['encryption_key'] as string },
    state: row['state'] as Volume['state'],
    createdAt: row['created_at'] as string,
  };
}
