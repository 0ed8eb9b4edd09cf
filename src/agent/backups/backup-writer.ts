/**
 * Writes what a backup is made of, chunks and pages of its indexes, into one batch of its store: all of it is durable before
 * the manifest names it.
 *
 *   extents ─▶ pack ─▶ several chunks under way ─▶ entries ─▶ pages ─▶ ids for the manifest
 *   parent's pages, without what has changed ──────────────────────────┘
 */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { DiskExtent } from '../../drivers/contracts/extents.ts';
import type { ObjectBatch } from '../../drivers/contracts/objects.ts';
import type { BackupNvram, BackupVolume } from '../../model/backup.ts';
import { Ranges, withoutChanged } from './changed-index.ts';
import type { Chunks } from './chunks.ts';
import { inFlight } from './in-flight.ts';
import type { VolumeSource } from './manifest.ts';
import { pack, type Packed, type PackedChunk } from './packer.ts';
import { PageWriter } from './page-writer.ts';
import type { VolumeReader } from './volume-reader.ts';

export interface WriteOptions extends CallOptions {
  /** Told bytes of disks that are kept, and those of them that had to be sent. */
  onProgress?: (keptBytes: number, sentBytes: number) => void;
}

export interface BackupWriterParts {
  chunks: Chunks;
  /** Of the parent's index. */
  reader: VolumeReader;
  batch: ObjectBatch;
  /** Of chunks that are under way at once. */
  limitBytes: number;
  /** Throws once others may take the repository for free. */
  mayGoOn: () => void;
  options: WriteOptions;
}

export class BackupWriter {
  readonly #parts: BackupWriterParts;
  #keptBytes = 0;
  #sentBytes = 0;

  constructor(parts: BackupWriterParts) {
    this.#parts = parts;
  }

  /** @param before The volume in the backup since which the extents are all that has changed; null for all that it has. */
  async volume({ extents, ...volume }: VolumeSource, before: BackupVolume | null): Promise<BackupVolume> {
    const pages = this.#pageWriter();
    const changed = new Ranges();
    let dataBytes = 0;
    const packed = pack(told(extents, before === null ? null : changed), volume.virtualSizeBytes);
    const { limitBytes } = this.#parts;
    const keep = { bytesOf: lengthOf, act: (chunk: PackedChunk) => this.#keepPacked(chunk), limitBytes };
    for await (const { bytes, entry, sentBytes } of inFlight(chunksOf(packed), keep)) {
      this.#parts.mayGoOn();
      await pages.add(entry);
      dataBytes += bytes;
      this.#tell(bytes, sentBytes);
    }
    const kept = before === null ? [] : await this.#unchangedPages(before, changed);
    return { ...volume, dataBytes, index: [...kept, ...(await pages.finish())] };
  }

  async nvram(bytes: Uint8Array): Promise<BackupNvram> {
    return { chunk: (await this.#keep(bytes)).id, sizeBytes: bytes.length };
  }

  /** Pages of which nothing has changed are the same ones. */
  async #unchangedPages(before: BackupVolume, changed: Ranges): Promise<string[]> {
    const { reader, options } = this.#parts;
    const ids: string[] = [];
    for (const page of before.index) {
      const entries = await reader.page(before, page, options);
      const left = entries.map((entry) => withoutChanged(entry, changed));
      if (left.every((each, place) => each[0] === entries[place])) {
        ids.push(page);
        continue;
      }
      const pages = this.#pageWriter();
      for (const entry of left.flat()) await pages.add(entry);
      ids.push(...(await pages.finish()));
    }
    return ids;
  }

  #pageWriter(): PageWriter {
    return new PageWriter((page) => this.#keep(Buffer.from(JSON.stringify(page))));
  }

  async #keepPacked({ bytes, pieces, release }: PackedChunk) {
    try {
      const { id: chunk, sentBytes } = await this.#keep(bytes);
      return { entry: { chunk, pieces }, bytes: bytes.length, sentBytes };
    } finally {
      release();
    }
  }

  async #keep(plain: Uint8Array): Promise<{ id: string; sentBytes: number }> {
    const { chunks, batch } = this.#parts;
    const id = chunks.idOf(plain);
    return { id, sentBytes: await chunks.keep(id, plain, batch) };
  }

  #tell(keptBytes: number, sentBytes: number): void {
    this.#keptBytes += keptBytes;
    this.#sentBytes += sentBytes;
    this.#parts.options.onProgress?.(this.#keptBytes, this.#sentBytes);
  }
}

/** The extents as they are, noted on their way. */
async function* told(extents: AsyncIterable<DiskExtent>, ranges: Ranges | null): AsyncGenerator<DiskExtent> {
  for await (const extent of extents) {
    ranges?.add(extent.offset, extent.type === 'data' ? extent.data.length : extent.length);
    yield extent;
  }
}

/** What is in no index is zero. */
async function* chunksOf(packed: AsyncIterable<Packed>): AsyncGenerator<PackedChunk> {
  for await (const each of packed) if (each.type === 'chunk') yield each;
}

function lengthOf({ bytes }: PackedChunk): number {
  return bytes.length;
}
