/** Rows of images. */

import { AgentError } from '../../model/errors.ts';
import type { GuestHardware, Image, ImageFormat, SourceFormat } from '../../model/storage.ts';
import type { Database, Row } from '../../sqlite/database.ts';

/** Facts of an image that was made; one made before version 7 of the database has the first three. */
interface ReadyFacts {
  sha256: string;
  sizeBytes: number;
  virtualSizeBytes: number;
  fileSha256?: string;
  hardware?: GuestHardware | null;
}

export class ImageStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(image: Image): void {
    this.#db.assertTransaction();
    const columns = toColumns(image);
    const names = Object.keys(columns);
    const marks = names.map(() => '?').join(', ');
    this.#db.sql(`INSERT INTO images (${names.join(', ')}) VALUES (${marks})`).run(...Object.values(columns));
  }

  /** Made, and so checked, at `at`. */
  setReady(id: string, facts: ReadyFacts, at: string): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        "UPDATE images SET state = 'ready', sha256 = ?, file_sha256 = ?, size_bytes = ?, virtual_size_bytes = ?, hardware = ?, last_used_at = ?, verified_at = ? WHERE id = ?",
      )
      .run(
        facts.sha256,
        facts.fileSha256 ?? facts.sha256,
        facts.sizeBytes,
        facts.virtualSizeBytes,
        facts.hardware == null ? null : JSON.stringify(facts.hardware),
        at,
        at,
        id,
      );
  }

  /** Keeps what a check has found. @param damage What is wrong; null where nothing is. */
  setChecked(id: string, damage: string | null, at: string): void {
    this.#db.assertTransaction();
    const state = damage === null ? 'ready' : 'damaged';
    this.#db
      .sql(
        "UPDATE images SET state = ?, damage = ?, verified_at = ? WHERE id = ? AND state IN ('ready', 'damaged')",
      )
      .run(state, damage, at, id);
  }

  setPinned(id: string, pinned: boolean): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE images SET pinned = ? WHERE id = ?').run(Number(pinned), id);
  }

  /** Something was made on it. */
  touch(id: string, at: string): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE images SET last_used_at = ? WHERE id = ?').run(at, id);
  }

  setState(id: string, state: Image['state']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE images SET state = ? WHERE id = ?').run(state, id);
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM images WHERE id = ?').run(id);
  }

  /** Notes that a pool has a copy of an image, or is about to get one. */
  noteCopy(id: string, pool: string): void {
    this.#db.assertTransaction();
    this.#db
      .sql('INSERT INTO image_copies (image_id, pool) VALUES (?, ?) ON CONFLICT DO NOTHING')
      .run(id, pool);
  }

  /** Pools beside the default one that have, or may have, a copy of it. */
  copiesOf(id: string): string[] {
    const rows = this.#db.sql('SELECT pool FROM image_copies WHERE image_id = ? ORDER BY pool').all(id);
    return rows.map((row) => row['pool'] as string);
  }

  list(): Image[] {
    return this.#db.sql('SELECT * FROM images ORDER BY name').all().map(toImage);
  }

  find(nameOrId: string): Image | null {
    const row = this.#db.sql('SELECT * FROM images WHERE id = ? OR name = ?').get(nameOrId, nameOrId);
    return row === undefined ? null : toImage(row);
  }

  /** @throws {AgentError} NOT_FOUND */
  get(nameOrId: string): Image {
    const image = this.find(nameOrId);
    if (image !== null) return image;
    throw new AgentError('NOT_FOUND', `No image ${nameOrId} on this node`, {
      hint: 'List them with `berth image list`, or import it.',
    });
  }
}

function toColumns(image: Image): Record<string, string | number | null> {
  return {
    id: image.id,
    name: image.name,
    pool: image.pool,
    format: image.format,
    source_format: image.sourceFormat,
    sha256: image.sha256,
    file_sha256: image.fileSha256,
    size_bytes: image.sizeBytes,
    virtual_size_bytes: image.virtualSizeBytes,
    state: image.state,
    damage: image.damage,
    pinned: Number(image.pinned),
    hardware: image.hardware === null ? null : JSON.stringify(image.hardware),
    created_at: image.createdAt,
    last_used_at: image.lastUsedAt,
    verified_at: image.verifiedAt,
  };
}

function toImage(row: Row): Image {
  return {
    id: row['id'] as string,
    name: row['name'] as string,
    pool: row['pool'] as string,
    format: row['format'] as ImageFormat,
    sourceFormat: row['source_format'] as SourceFormat,
    sha256: row['sha256'] as string | null,
    fileSha256: row['file_sha256'] as string | null,
    sizeBytes: row['size_bytes'] as number,
    virtualSizeBytes: row['virtual_size_bytes'] as number,
    state: row['state'] as Image['state'],
    damage: row['damage'] as string | null,
    pinned: row['pinned'] === 1,
    hardware: row['hardware'] === null ? null : (JSON.parse(row['hardware'] as string) as GuestHardware),
    createdAt: row['created_at'] as string,
    lastUsedAt: row['last_used_at'] as string | null,
    verifiedAt: row['verified_at'] as string | null,
  };
}
