/** Reads the volumes of backups: their indexes, and the chunks that these name, several at once. */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { DiskSink } from '../../drivers/contracts/extents.ts';
import { type BackupManifest, type BackupVolume, type IndexEntry, IndexPage } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { freeWhole } from '../../model/free.ts';
import { parseJson } from '../../model/json.ts';
import { parse } from '../../model/validate.ts';
import { placedPieces } from './changed-index.ts';
import type { Chunks } from './chunks.ts';
import { damaged } from './codec.ts';
import { inFlight } from './in-flight.ts';
import { CHUNK_BYTES, piecesFit } from './packer.ts';

export interface ReadOptions extends CallOptions {
  /** Told bytes of a disk that were read. */
  onProgress?: (readBytes: number) => void;
}

export class VolumeReader {
  readonly #chunks: Chunks;
  readonly #limitBytes: number;

  /** @param limitBytes Of chunks that are under way at once. */
  constructor(chunks: Chunks, limitBytes: number) {
    this.#chunks = chunks;
    this.#limitBytes = limitBytes;
  }

  /** @throws {AgentError} DATA_DAMAGED: what is in the sink then is not to be used. */
  async restore(volume: BackupVolume, sink: DiskSink, options: ReadOptions): Promise<void> {
    const act = (entry: IndexEntry) => this.#withBytes(entry, options);
    const read = { bytesOf: () => CHUNK_BYTES, act, limitBytes: this.#limitBytes };
    let readBytes = 0;
    for await (const { entry, bytes } of inFlight(this.entries(volume, options), read)) {
      if (!piecesFit(entry, volume.virtualSizeBytes, bytes?.length ?? null))
        throw damaged(`index of volume ${volume.id}`, 'it tells pieces that do not fit');
      if (bytes === null || !('chunk' in entry)) await zeroAll(entry, sink);
      else {
        for (const [offset, length, at] of placedPieces(entry.pieces)) {
          await sink.write(offset, bytes.subarray(at, at + length));
          readBytes += length;
        }
        options.onProgress?.(readBytes);
        freeWhole(bytes);
      }
    }
  }

  async dataBytes(volume: BackupVolume, options: CallOptions): Promise<number> {
    let bytes = 0;
    for await (const entry of this.entries(volume, options))
      if ('chunk' in entry) bytes += entry.pieces.reduce((sum, [, length = 0]) => sum + length, 0);
    return bytes;
  }

  async *entries(volume: BackupVolume, options: CallOptions): AsyncGenerator<IndexEntry> {
    for (const page of volume.index) yield* await this.page(volume, page, options);
  }

  async page({ id }: BackupVolume, page: string, options: CallOptions): Promise<IndexEntry[]> {
    return readAs(IndexPage, await this.#chunks.read(page, options), `index of volume ${id}`);
  }

  /** Null for zeros. */
  async #withBytes(entry: IndexEntry, options: CallOptions) {
    return { entry, bytes: 'chunk' in entry ? await this.#chunks.read(entry.chunk, options) : null };
  }
}

async function zeroAll(entry: IndexEntry, sink: DiskSink): Promise<void> {
  const pieces = 'zero' in entry ? entry.zero : [];
  for (const [offset = 0, length = 0] of pieces) await sink.zero(offset, length);
}

export function readAs<S extends typeof BackupManifest | typeof IndexPage>(
  schema: S,
  plain: Buffer,
  name: string,
) {
  try {
    return parse(schema, parseJson(plain.toString('utf8')), name);
  } catch (cause) {
    throw new AgentError('DATA_DAMAGED', `Cannot read ${name}: it has another form`, { cause });
  }
}
