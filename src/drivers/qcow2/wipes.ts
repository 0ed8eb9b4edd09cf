/**
 * Wipes: deleted volumes whose bytes are overwritten before their room is given back.
 *
 *   volumes/ID.qcow2 ── renamed ──▶ volumes/ID.wipe ── zeros over all that is not zero ──▶ removed
 *   its layers and memories, the same
 *
 * What this is worth depends on what is below. On a file system that writes in place, on a disk that does, no later
 * reader of the disk finds the bytes. On btrfs, on XFS where the extents are shared, under snapshots of LVM or of a
 * storage server, and within an SSD, zeros go somewhere else, and the old bytes stay until their room is used again:
 * there only encryption of the disk helps. Nothing below asks for less than a write, so no more is promised.
 *
 * Of an encrypted volume it is its LUKS header that is overwritten, with the one copy of the key that its data are
 * encrypted by: that takes no time, and what is left of it anywhere says nothing. An old copy of the header itself, as on
 * the disks above, could still be opened by whoever has the key of the node.
 */
import { type FileHandle, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { LayerId } from '../../model/layers.ts';
import { MIB } from '../../model/units.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { lent } from '../host/exec.ts';
import { BLOCK_BYTES, ZEROS } from './blocks.ts';
import {
  exists,
  explainUse,
  PARTIAL_SUFFIX,
  readAt,
  removeDurably,
  lstatIfThere,
  sizeOfRegular,
  syncFolder,
} from './files.ts';
import { HEADER_BYTES, type Qcow2Header, readQcow2Header } from './header.ts';
import type { ImageTool } from './image-tool.ts';
import type { LayerStore } from './layers.ts';
import { besideWipe, type Layout } from './layout.ts';
import { isWipe, listFolder } from './pool-folder.ts';
import type { VolumeStore } from './volumes.ts';

/** Bytes after which it is waited for the disk: what is left to the page cache would come all at once in the end. */
const SYNC_BYTES = 64 * MIB;
/** Holes are of whole pages: one that is written to would take room. */
const PIECE_BYTES = 4096;

type KeyArea = NonNullable<Qcow2Header['keyArea']>;

export interface WipeStoreParts {
  layout: Layout;
  layers: LayerStore;
  tool: ImageTool;
  volumes: VolumeStore;
  clock: Clock;
}

export class WipeStore {
  readonly #parts: WipeStoreParts;

  constructor(parts: WipeStoreParts) {
    this.#parts = parts;
  }

  /** Its name goes first: what a crash leaves beside it is found by the next call. */
  async setAside(id: string, limit: CallLimit): Promise<void> {
    const { layout, layers, volumes } = this.#parts;
    const path = layout.volume(id);
    const besides = (await layers.besides(id)).filter((beside) => !beside.endsWith(PARTIAL_SUFFIX));
    for (const { id: layer } of await layers.list(id)) await this.#assertUnused(id, layer, limit);
    if (await exists(path)) {
      await this.#assertUnused(id, null, limit);
      await rename(path, layout.volumeWipe(id));
    }
    for (const beside of besides) await rename(beside, besideWipe(beside));
    await syncFolder(dirname(path));
    await volumes.remove(id, limit);
  }

  async wipe(id: string, bytesPerSecond: number, limit: CallLimit): Promise<void> {
    const { layout } = this.#parts;
    const files = (await listFolder(layout, 'volumes')).filter((file) => file.id === id && isWipe(file));
    for (const { path } of files) await this.#wipeFile(path, bytesPerSecond, limit);
  }

  /** To another node of a shared pool, which had not taken this name away yet: the bytes are that node's. */
  async #isPassed(path: string): Promise<boolean> {
    return this.#parts.layout.isShared && ((await lstatIfThere(path))?.nlink ?? 1) > 1;
  }

  async #wipeFile(path: string, bytesPerSecond: number, limit: CallLimit): Promise<void> {
    const sizeBytes = await sizeOfRegular(path);
    if (sizeBytes === null) return;
    if (!(await this.#isPassed(path))) {
      await using file = await open(path, 'r+');
      const { keyArea } = await headerOf(file);
      if (keyArea === null) await this.#overwrite(file, { sizeBytes, bytesPerSecond }, limit);
      else await overwriteArea(file, keyArea);
      await file.sync();
    }
    await removeDurably(path);
  }

  async #overwrite(
    file: FileHandle,
    { sizeBytes, bytesPerSecond }: { sizeBytes: number; bytesPerSecond: number },
    limit: CallLimit,
  ): Promise<void> {
    const { clock } = this.#parts;
    const startMs = clock.monotonicMs();
    let unsynced = 0;
    for (let at = 0; at < sizeBytes; at += BLOCK_BYTES) {
      const written = await zeroBlock(file, at, Math.min(BLOCK_BYTES, sizeBytes - at));
      unsynced += written;
      if (unsynced >= SYNC_BYTES) {
        await file.datasync();
        unsynced = 0;
      }
      await this.#until(startMs + ((at + BLOCK_BYTES) / bytesPerSecond) * 1000, limit);
    }
  }

  async #until(atMs: number, limit: CallLimit): Promise<void> {
    const { clock } = this.#parts;
    const aheadMs = atMs - clock.monotonicMs();
    if (aheadMs > 0) await pause(clock, aheadMs, limit.signal);
    limit.check();
  }

  /** Nothing of ours uses it; others may, who know it by its name. */
  async #assertUnused(id: string, layer: LayerId, limit: CallLimit): Promise<void> {
    const { tool, volumes } = this.#parts;
    await using file = await volumes.lend(tool, id, { layer });
    const args = ['info', '-f', 'qcow2', lent(0)];
    await tool.run('qemu-img', args, { files: [file.file] }, limit).catch((error: unknown) => {
      throw explainUse(error);
    });
  }
}

/** Null for one whose header a wipe that was broken off has overwritten, or that is none of ours. */
async function headerOf(file: FileHandle): Promise<Pick<Qcow2Header, 'keyArea'>> {
  const header = readQcow2Header(await readAt(file, 0, HEADER_BYTES));
  return header.ok ? header.value : { keyArea: null };
}

async function overwriteArea(file: FileHandle, { offset, length }: KeyArea): Promise<void> {
  for (let done = 0; done < length; done += BLOCK_BYTES)
    await file.write(ZEROS, 0, Math.min(BLOCK_BYTES, length - done), offset + done);
}

/** Bytes that were written: none where all are zeros already, or a hole. */
async function zeroBlock(file: FileHandle, offset: number, length: number): Promise<number> {
  let written = 0;
  for (const run of runsOf(await readAt(file, offset, length))) {
    await file.write(ZEROS, 0, run.length, offset + run.start);
    written += run.length;
  }
  return written;
}

/** Where bytes are that are not zeros, in whole pieces. */
function runsOf(block: Buffer): { start: number; length: number }[] {
  const runs: { start: number; length: number }[] = [];
  for (let start = 0; start < block.length; start += PIECE_BYTES) {
    const piece = block.subarray(start, start + PIECE_BYTES);
    if (piece.equals(ZEROS.subarray(0, piece.length))) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.start + last.length === start) last.length += piece.length;
    else runs.push({ start, length: piece.length });
  }
  return runs;
}

function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancelTimer = clock.after(delayMs, resolve);
  signal.addEventListener('abort', () => resolve(), { once: true });
  return promise.finally(cancelTimer);
}
