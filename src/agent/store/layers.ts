/** Rows of the layers of volumes, and which of them is active. */
import type { PoolClaims } from '../../model/capacity.ts';
import { chainTo, type Layer, type LayerId, type VolumeLayers } from '../../model/layers.ts';
import type { Database } from '../../sqlite/database.ts';

export class LayerStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  of(volumeId: string): VolumeLayers {
    const rows = this.#db.sql('SELECT * FROM layers WHERE volume_id = ? ORDER BY id').all(volumeId);
    const layers = rows.map(
      (row): Layer => ({
        id: row['id'] as string,
        parent: row['parent'] as LayerId,
        merged: row['merged'] === 1,
      }),
    );
    return { active: this.activeOf(volumeId), layers };
  }

  activeOf(volumeId: string): LayerId {
    const row = this.#db.sql('SELECT layer FROM volumes WHERE id = ?').get(volumeId);
    return (row?.['layer'] ?? null) as LayerId;
  }

  /** The layers from the lowest to the active one. */
  chainOf(volumeId: string): string[] {
    const { active, layers } = this.of(volumeId);
    return chainTo(layers, active);
  }

  /** Makes a layer the active one of a volume; it knows which one that was before. */
  add(volumeId: string, { id, parent }: Pick<Layer, 'id' | 'parent'>): void {
    this.#db.assertTransaction();
    this.#db
      .sql('INSERT INTO layers (volume_id, id, parent, merged, replaced) VALUES (?, ?, ?, 0, ?)')
      .run(volumeId, id, parent, this.activeOf(volumeId));
    this.#db.sql('UPDATE volumes SET layer = ? WHERE id = ?').run(id, volumeId);
  }

  /** The opposite of `add`; nothing where there is no such layer. */
  takeBack(volumeId: string, id: string): void {
    this.#db.assertTransaction();
    const row = this.#db.sql('SELECT replaced FROM layers WHERE volume_id = ? AND id = ?').get(volumeId, id);
    if (row === undefined) return;
    this.#db.sql('UPDATE volumes SET layer = ? WHERE id = ?').run(row['replaced'] as LayerId, volumeId);
    this.#db.sql('DELETE FROM layers WHERE volume_id = ? AND id = ?').run(volumeId, id);
  }

  /** Writes all of a volume's layers anew. */
  write(volumeId: string, { active, layers }: VolumeLayers): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM layers WHERE volume_id = ?').run(volumeId);
    for (const { id, parent, merged } of layers) {
      this.#db
        .sql('INSERT INTO layers (volume_id, id, parent, merged) VALUES (?, ?, ?, ?)')
        .run(volumeId, id, parent, Number(merged));
    }
    this.#db.sql('UPDATE volumes SET layer = ? WHERE id = ?').run(active, volumeId);
  }

  instancesWithLayers(): string[] {
    return this.#db
      .sql('SELECT DISTINCT instance_id AS id FROM layers JOIN volumes ON volumes.id = volume_id')
      .all()
      .flatMap((row) => (row['id'] as string | null) ?? []);
  }

  /** GiB of all files that volumes have of one layer, by pool: an operation gives each of its volumes a layer of the same id. */
  claimsOf(id: string): PoolClaims {
    const rows = this.#db
      .sql(
        'SELECT pool, sum(size_gib) AS gib FROM layers JOIN volumes ON volumes.id = volume_id WHERE layers.id = ? GROUP BY pool',
      )
      .all(id);
    return Object.fromEntries(rows.map((row) => [row['pool'] as string, row['gib'] as number]));
  }
}
