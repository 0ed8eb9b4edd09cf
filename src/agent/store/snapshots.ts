/** Rows of snapshots. */
import { AgentError } from '../../model/errors.ts';
import type { LayerId } from '../../model/layers.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { Database, Row } from '../../sqlite/database.ts';

/** A disk at a snapshot: the layer that holds, with what it stands on, what was on it. */
export interface SnapshotDisk {
  volumeId: string;
  sizeGib: number;
  layer: LayerId;
}

export interface SnapshotRow
  extends Pick<
    Snapshot,
    'id' | 'name' | 'instanceId' | 'parentId' | 'current' | 'state' | 'quiesced' | 'createdAt'
  > {
  disks: SnapshotDisk[];
  /** The volume that its memory lies with; null for one without memory. */
  memoryVolumeId: string | null;
  /** The volume that firmware variables lie with; null for none: of a BIOS guest, or within the memory. */
  nvramVolumeId: string | null;
}

export class SnapshotStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(snapshot: SnapshotRow): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO snapshots (id, instance_id, name, parent_id, current, state, memory_volume_id, nvram_volume_id, quiesced, disks, created_at) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        snapshot.id,
        snapshot.instanceId,
        snapshot.name,
        snapshot.parentId,
        snapshot.state,
        snapshot.memoryVolumeId,
        snapshot.nvramVolumeId,
        Number(snapshot.quiesced),
        JSON.stringify(snapshot.disks),
        snapshot.createdAt,
      );
    if (snapshot.current) this.setCurrent(snapshot.instanceId, snapshot.id);
  }

  setState(id: string, state: SnapshotRow['state']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE snapshots SET state = ? WHERE id = ?').run(state, id);
  }

  setDisks(id: string, disks: readonly SnapshotDisk[]): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE snapshots SET disks = ? WHERE id = ?').run(JSON.stringify(disks), id);
  }

  setReady(id: string, { quiesced }: Pick<SnapshotRow, 'quiesced'>): void {
    this.#db.assertTransaction();
    this.#db.sql("UPDATE snapshots SET state = 'ready', quiesced = ? WHERE id = ?").run(Number(quiesced), id);
  }

  /** Its guest turned out to have no firmware variables. */
  setWithoutNvram(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE snapshots SET nvram_volume_id = NULL WHERE id = ?').run(id);
  }

  /** @param id Null where the instance stands on none. */
  setCurrent(instanceId: string, id: string | null): void {
    this.#db.assertTransaction();
    this.#db
      .sql("UPDATE snapshots SET current = (id = coalesce(?, '')) WHERE instance_id = ?")
      .run(id, instanceId);
  }

  /** Those that came after it come after the one before it then. */
  remove({ id, instanceId, parentId, current }: SnapshotRow): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE snapshots SET parent_id = ? WHERE parent_id = ?').run(parentId, id);
    this.#db.sql('DELETE FROM snapshots WHERE id = ?').run(id);
    if (current) this.setCurrent(instanceId, parentId);
  }

  /** What was in a layer is in another one now. */
  moveLayer(instanceId: string, volumeId: string, { from, to }: Record<'from' | 'to', LayerId>): void {
    this.#db.assertTransaction();
    const isMoved = (disk: SnapshotDisk) => disk.volumeId === volumeId && disk.layer === from;
    for (const { id, disks } of this.listOf(instanceId)) {
      const moved = disks.map((disk) => (isMoved(disk) ? { ...disk, layer: to } : disk));
      this.#db.sql('UPDATE snapshots SET disks = ? WHERE id = ?').run(JSON.stringify(moved), id);
    }
  }

  /** The layers of a volume that snapshots keep. */
  keptOf(instanceId: string, volumeId: string): Set<LayerId> {
    const disks = this.listOf(instanceId).flatMap((row) => row.disks);
    return new Set(disks.filter((disk) => disk.volumeId === volumeId).map(({ layer }) => layer));
  }

  /** Oldest first. */
  listOf(instanceId: string): SnapshotRow[] {
    return this.#db
      .sql('SELECT * FROM snapshots WHERE instance_id = ? ORDER BY created_at, rowid')
      .all(instanceId)
      .map(toRow);
  }

  /** As they are once the one that is being deleted is gone. */
  stayingOf(instanceId: string): SnapshotRow[] {
    const all = this.listOf(instanceId);
    const gone = all.find(({ state }) => state === 'deleting');
    if (gone === undefined) return all;
    return all
      .filter((row) => row !== gone)
      .map((row) => ({
        ...row,
        parentId: row.parentId === gone.id ? gone.parentId : row.parentId,
        current: row.current || (gone.current && row.id === gone.parentId),
      }));
  }

  /** Of any instance. */
  isKnown(id: string): boolean {
    return this.#db.sql('SELECT 1 FROM snapshots WHERE id = ?').get(id) !== undefined;
  }

  find(instanceId: string, nameOrId: string): SnapshotRow | null {
    const row = this.#db
      .sql('SELECT * FROM snapshots WHERE instance_id = ? AND (id = ? OR name = ?)')
      .get(instanceId, nameOrId, nameOrId);
    return row === undefined ? null : toRow(row);
  }

  /** @throws {AgentError} NOT_FOUND */
  get(instanceId: string, nameOrId: string): SnapshotRow {
    const snapshot = this.find(instanceId, nameOrId);
    if (snapshot !== null) return snapshot;
    throw new AgentError('NOT_FOUND', `The instance has no snapshot ${nameOrId}`, {
      hint: 'List them with `berth snapshot list`.',
    });
  }
}

/** As callers see it. */
export function snapshotView(row: SnapshotRow): Snapshot {
  const { disks, memoryVolumeId, nvramVolumeId: _nvram, ...rest } = row;
  return {
    ...rest,
    memory: memoryVolumeId !== null,
    volumes: disks.map(({ volumeId, sizeGib }) => ({ id: volumeId, sizeGib })),
  };
}

function toRow(row: Row): SnapshotRow {
  return {
    id: row['id'] as string,
    instanceId: row['instance_id'] as string,
    name: row['name'] as string,
    parentId: row['parent_id'] as string | null,
    current: row['current'] === 1,
    state: row['state'] as SnapshotRow['state'],
    memoryVolumeId: row['memory_volume_id'] as string | null,
    nvramVolumeId: row['nvram_volume_id'] as string | null,
    quiesced: row['quiesced'] === 1,
    disks: JSON.parse(row['disks'] as string),
    createdAt: row['created_at'] as string,
  };
}
