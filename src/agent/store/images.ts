/** Rows of images. */

import { AgentError } from '../../model/errors.ts';
import type { Image, ImageFormat } from '../../model/storage.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export class ImageStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(image: Image): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO images (id, name, pool, format, sha256, size_bytes, virtual_size_bytes, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        image.id,
        image.name,
        image.pool,
        image.format,
        image.sha256,
        image.sizeBytes,
        image.virtualSizeBytes,
        image.state,
        image.createdAt,
      );
  }

  setReady(id: string, facts: { sha256: string; sizeBytes: number; virtualSizeBytes: number }): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        "UPDATE images SET state = 'ready', sha256 = ?, size_bytes = ?, virtual_size_bytes = ? WHERE id = ?",
      )
      .run(facts.sha256, facts.sizeBytes, facts.virtualSizeBytes, id);
  }

  setState(id: string, state: Image['state']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE images SET state = ? WHERE id = ?').run(state, id);
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM images WHERE id = ?').run(id);
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

function toImage(row: Row): Image {
  return {
    id: row['id'] as string,
    name: row['name'] as string,
    pool: row['pool'] as string,
    format: row['format'] as ImageFormat,
    sha256: row['sha256'] as string | null,
    sizeBytes: row['size_bytes'] as number,
    virtualSizeBytes: row['virtual_size_bytes'] as number,
    state: row['state'] as Image['state'],
    createdAt: row['created_at'] as string,
  };
}
