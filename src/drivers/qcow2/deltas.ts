/**
 * Deltas: clusters of a volume at one moment, all of them or those that have changed since another one, as a qcow2 file
 * beside it, for a backup of a guest that runs. One that does not is read where it lies (volume-reads.ts).
 *
 *   QEMU, by a backup job of libvirt ──▶ volumes/ID.delta ──map, read──▶ extents
 *
 * A cluster that the file has is one that changed, also where it is zero; all others are as they were. The file is
 * written by a QEMU that a guest may have taken over: its tables are read by qemu-img in the cage, which follows no
 * name in it, and its data by us where these say. That of an encrypted volume is encrypted as that is: its data are read
 * by qemu-nbd, in the cage as well.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import { freed } from '../../model/free.ts';
import { MIB } from '../../model/units.ts';
import type { DiskExtent } from '../contracts/extents.ts';
import type { KeyOfVolume } from '../contracts/keys.ts';
import type { DirtyBitmap, EmptyCopy } from '../contracts/storage.ts';
import { CallLimit } from '../host/call-limit.ts';
import { BLOCK_BYTES, ZEROS } from './blocks.ts';
import { convertLimits } from './convert.ts';
import {
  doing,
  exists,
  explainUse,
  PARTIAL_SUFFIX,
  publish,
  readAt,
  readInto,
  removeDurably,
  sizeOfRegular,
  syncFolder,
  takeOver,
} from './files.ts';
import { HEADER_BYTES, readQcow2Header, tableReason } from './header.ts';
import { damaged, type DeltaMap, MapReader } from './map-reader.ts';
import { readRanges } from './nbd-extents.ts';
import {
  aloneByKey,
  explainKey,
  type LentKey,
  luksOptions,
  secretArgs,
  untilMeasured,
} from '../host/passphrases.ts';
import { lent } from '../host/exec.ts';
import { serveDisk } from './served-disk.ts';
import { FORMAT_OPTIONS } from './volumes.ts';
import type { VolumeParts } from './whole-volume.ts';

const { O_RDONLY, O_NOFOLLOW } = constants;
/** All bytes of a guest: for the agent alone. */
const DELTA_MODE = 0o600;
const TIMEOUT_MS = 6 * 3600_000;
const GROWTH_BYTES = 64 * MIB;

export class DeltaStore {
  readonly #parts: VolumeParts;

  constructor(parts: VolumeParts) {
    this.#parts = parts;
  }

  /** Makes an empty one, for a guest's QEMU to write to. */
  async makeEmpty({ copyId, id, sizeBytes, encryption }: EmptyCopy, limit: CallLimit): Promise<void> {
    const { layout, tool, passphrases } = this.#parts;
    const path = layout.volumeDelta(copyId);
    await using key = await passphrases.lend(id, encryption);
    {
      await using target = await tool.make(path + PARTIAL_SUFFIX);
      const files = [target, ...(key === null ? [] : [key.file])];
      const format = ['-f', 'qcow2', '-o', FORMAT_OPTIONS + luksOptions(key)];
      const args = ['create', '-q', ...secretArgs(key, 1), ...format, lent(0), String(sizeBytes)];
      const run = { files, limits: convertLimits(GROWTH_BYTES) };
      await untilMeasured(() => tool.run('qemu-img', args, run, limit));
    }
    await publish(path + PARTIAL_SUFFIX, path, DELTA_MODE);
  }

  /** Null where there is no delta; else its extents. @param key Of its volume, where that is encrypted. */
  async find(
    id: string,
    key: KeyOfVolume | null,
    signal: AbortSignal | undefined,
  ): Promise<AsyncGenerator<DiskExtent> | null> {
    const path = this.#parts.layout.volumeDelta(id);
    if (!(await exists(path))) return null;
    return key === null ? this.#read(path, signal) : this.#readByKey(path, key, signal);
  }

  /** Makes one durable that a guest's QEMU has written; false where there is none. */
  async keep(id: string): Promise<boolean> {
    const path = this.#parts.layout.volumeDelta(id);
    if (!(await exists(path))) return false;
    await takeOver(path, DELTA_MODE);
    await syncFolder(dirname(path));
    return true;
  }

  async remove(id: string): Promise<void> {
    const path = this.#parts.layout.volumeDelta(id);
    await removeDurably(path);
    await removeDurably(path + PARTIAL_SUFFIX);
  }

  /** Of a volume that no guest uses. @throws {AgentError} NOT_FOUND */
  async bitmaps(id: string, limit: CallLimit): Promise<DirtyBitmap[]> {
    const { volumes, tool } = this.#parts;
    if ((await volumes.look(id)) === null)
      throw new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
    await using top = await volumes.lend(tool, id);
    return await this.bitmapsIn(top.file, limit);
  }

  /** Of a file that is lent already: who lends it a second time takes the right to it from the first in the end. */
  async bitmapsIn(file: FileHandle, limit: CallLimit): Promise<DirtyBitmap[]> {
    const args = ['info', '--output=json', alone(lent(0))];
    const { stdout } = await this.#parts.tool
      .run('qemu-img', args, { files: [file] }, limit)
      .catch((error: unknown) => {
        throw explainUse(error);
      });
    const info = JSON.parse(stdout) as { 'format-specific'?: { data?: { bitmaps?: ListedBitmap[] } } };
    const listed = info['format-specific']?.data?.bitmaps ?? [];
    return listed.map(({ name, flags }) => ({ name, consistent: !flags.includes('in-use') }));
  }

  async *#read(path: string, signal: AbortSignal | undefined): AsyncGenerator<DiskExtent> {
    const fileBytes = (await sizeOfRegular(path)) ?? 0;
    await using file = await doing(`read ${path}`, () => open(path, O_RDONLY | O_NOFOLLOW));
    checkTables(await readAt(file, 0, HEADER_BYTES), fileBytes);
    const map = await this.#map(path, signal);
    const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    using _freed = freed(block);
    for (const { start, length, offset } of map.changed()) {
      if (offset !== null && offset + length > fileBytes) throw damaged('its data lie beyond its end');
      if (offset === null) {
        yield { type: 'zero', offset: start, length };
        continue;
      }
      for (let done = 0; done < length; done += BLOCK_BYTES) {
        signal?.throwIfAborted();
        const data = await readInto(file, offset + done, block.subarray(0, length - done));
        yield extentOf(start + done, data);
      }
    }
  }

  /** In clear in memory alone: each extent is read when the one before was taken. */
  async *#readByKey(
    path: string,
    { volumeId: id, key: name }: KeyOfVolume,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<DiskExtent> {
    const { tool, passphrases } = this.#parts;
    using limit = new CallLimit(`Read ${path}`, signal === undefined ? {} : { signal }, TIMEOUT_MS);
    const encryption = { key: name };
    await using key = (await passphrases.lend(id, encryption)) as LentKey;
    const map = await this.#map(path, signal, key).catch((error: unknown) => {
      throw explainKey(error, id, encryption);
    });
    await using file = await tool.lend(path);
    const image = [aloneByKey(lent(0))];
    const disk = { files: [file], image, key, mode: 'to read', limits: convertLimits(0) } as const;
    await using served = await serveDisk(tool, disk, limit);
    for (const { start, length, offset } of map.changed()) {
      if (offset === null) yield { type: 'zero', offset: start, length };
      else yield* readRanges(served, [{ start, length }]);
    }
  }

  async #map(path: string, signal: AbortSignal | undefined, key: LentKey | null = null): Promise<DeltaMap> {
    const { tool } = this.#parts;
    using limit = new CallLimit(`Map ${path}`, signal === undefined ? {} : { signal }, TIMEOUT_MS);
    await using file = await tool.lend(path);
    const reader = new MapReader(key === null ? 'in the file' : 'unknown');
    const files = key === null ? [file] : [file, key.file];
    const run = { files, consume: async (chunk: Buffer) => reader.take(chunk) };
    const named = key === null ? alone(lent(0)) : aloneByKey(lent(0));
    await tool.run('qemu-img', ['map', '--output=json', ...secretArgs(key, 1), named], run, limit);
    return reader.end();
  }
}

/** Where a table lies beyond the file's end, QEMU reads that it has nothing: a delta that was cut would be no change. */
function checkTables(start: Buffer, fileBytes: number): void {
  const header = readQcow2Header(start);
  const reason = header.ok ? tableReason(start, header.value, fileBytes) : header.reason;
  if (reason !== null) throw damaged(reason);
}

interface ListedBitmap {
  name: string;
  flags: string[];
}

/** A lent qcow2 file without what its header says that it stands on. */
function alone(filename: string): string {
  return `json:${JSON.stringify({ driver: 'qcow2', backing: null, file: { driver: 'file', filename } })}`;
}

function extentOf(offset: number, data: Buffer): DiskExtent {
  if (data.equals(ZEROS.subarray(0, data.length))) return { type: 'zero', offset, length: data.length };
  return { type: 'data', offset, data };
}
