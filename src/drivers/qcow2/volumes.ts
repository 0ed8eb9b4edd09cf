/**
 * Volumes: qcow2 files, empty or as an overlay on an image of the pool.
 *
 * They are looked at by their headers, without a child and without QEMU's lock: a guest can write all of a
 * volume's contents but nothing of its header. An overlay names its image by absolute path and by format, so
 * that nothing has to be probed. What people call a volume is in a label beside it, durable before the volume
 * has its name; one that is missing or broken is no hindrance, since it is read only to know a volume again.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Id, nullable, strict } from '../../model/common.ts';
import { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import { DISK_GIB_MAX } from '../../model/instance.ts';
import type { LayerId } from '../../model/layers.ts';
import { VolumeName } from '../../model/storage.ts';
import { Type } from '../../model/schema.ts';
import type { FoundVolume, VolumeChain, VolumeLabel, VolumeRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { Exec } from '../host/exec.ts';
import {
  doing,
  exists,
  explainUse,
  PARTIAL_SUFFIX,
  publish,
  readAt,
  readAs,
  readSmall,
  removeDurably,
  sizeOfRegular,
  syncFile,
  writeDurably,
} from './files.ts';
import { HEADER_BYTES, type Qcow2Header, readQcow2Header } from './header.ts';
import type { ImageTool } from './image-tool.ts';
import type { ImageStore } from './images.ts';
import { KeyedLock } from './keyed-lock.ts';
import type { LayerStore } from './layers.ts';
import { checkId, type Layout } from './layout.ts';
import {
  aloneByKey,
  explainKey,
  filesOf,
  imageOptions,
  luksOptions,
  type Passphrases,
  secretArgs,
  untilMeasured,
} from '../host/passphrases.ts';

/** libvirt gives the file to QEMU's user when the guest starts. */
export const VOLUME_MODE = 0o600;
/** A virtual disk is whole sectors. @see BDRV_SECTOR_SIZE, QEMU */
const SECTOR_BYTES = 512;
const SIZE_BYTES_MAX = DISK_GIB_MAX * 1024 ** 3;
/**
 * Said in full, so that a volume is the same whatever qemu-img's defaults are: 64 KiB clusters are its
 * default and the best tested; eager refcounts need no repair after a power loss; nothing is preallocated.
 */
export const FORMAT_OPTIONS =
  'compat=1.1,cluster_size=65536,refcount_bits=16,lazy_refcounts=off,preallocation=off';

/** The largest volume, to a slow disk, milliseconds. */
const CONVERT_TIMEOUT_MS = 6 * 3600_000;
/** For the agent alone. */
const LABEL_MODE = 0o600;

const StoredLabel = strict({
  version: Type.Literal(1),
  name: VolumeName,
  createdAt: Type.String({ maxLength: 64 }),
  instanceId: nullable(Id),
  protected: Type.Optional(Type.Boolean()),
  encryption: Type.Optional(Encryption),
});

export interface VolumeStoreParts {
  layout: Layout;
  exec: Exec;
  images: ImageStore;
  layers: LayerStore;
  passphrases: Passphrases;
}

export class VolumeStore {
  readonly #parts: VolumeStoreParts;
  readonly #lock = new KeyedLock();

  constructor(parts: VolumeStoreParts) {
    this.#parts = parts;
  }

  async make(request: VolumeRequest, limit: CallLimit): Promise<void> {
    checkSize(request);
    await this.#lock.hold(checkId(request.id), limit, async () => {
      const backingFile = await this.#backingFile(request, limit);
      const header = await this.#readHeader(request.id);
      if (header === null) await this.#create(request, backingFile, limit);
      else checkAlike(request, header, backingFile);
    });
  }

  /** The same for a volume of its own, with the bytes of a raw file, which is gone before the volume is there. */
  async makeFrom(request: VolumeRequest, rawPath: string, limit: CallLimit): Promise<void> {
    await this.makeBy(request, limit, async (partialPath) => {
      const args = ['convert', '-q', '-W', '-f', 'raw', '-O', 'qcow2', '-o', FORMAT_OPTIONS];
      await this.#parts.exec.run('qemu-img', [...args, rawPath, partialPath], {
        signal: limit.signal,
        timeoutMs: CONVERT_TIMEOUT_MS,
      });
      await removeDurably(rawPath);
    });
  }

  /** Makes a volume of its own, on no image, from the file that `make` writes, which may be smaller; one that is there is left as it is. */
  async makeBy(
    request: VolumeRequest,
    limit: CallLimit,
    make: (partialPath: string) => Promise<void>,
  ): Promise<void> {
    checkSize(request);
    const { id, sizeBytes, encryption = null } = request;
    await this.#lock.hold(checkId(id), limit, async () => {
      if ((await this.#readHeader(id)) !== null) return;
      await this.#publish(request, async (partialPath) => {
        await make(partialPath);
        if ((await readHeader(partialPath))?.virtualSizeBytes === sizeBytes) return;
        await this.#resize(id, partialPath, { sizeBytes, encryption }, limit);
      });
    });
  }

  /** @param layer Which file of it; null for its own. */
  async look(id: string, layer: LayerId = null): Promise<{ sizeBytes: number } | null> {
    const header = await readHeader(this.#parts.layout.layer(id, layer));
    return header === null ? null : { sizeBytes: header.virtualSizeBytes };
  }

  /** The file that a volume, whole or partial, stands on; `unknown` where it has no header that says so. */
  async backingFileOf(path: string): Promise<string | null> {
    const sizeBytes = await sizeOfRegular(path);
    if (sizeBytes === null) return null;
    const header = sizeBytes === 0 ? null : readQcow2Header(await readStart(path));
    if (!header?.ok) return 'unknown';
    const { backingFile } = header.value;
    return backingFile === null ? null : resolve(dirname(path), backingFile);
  }

  /** What is known of a volume whose file is there. @param place The folder of another node, in a shared pool. */
  async find(id: string, place: Layout = this.#parts.layout): Promise<FoundVolume | null> {
    const label = await this.#readLabel(id, place);
    const layers = await this.#parts.layers.list(id, place);
    try {
      const header = await readHeader(place.volume(id));
      if (header === null) return null;
      const { virtualSizeBytes: sizeBytes, backingFile, encrypted } = header;
      const seen = { id, sizeBytes, ...(encrypted && { encrypted }), label, layers };
      if (backingFile === null) return { ...seen, image: null, fault: null };
      const image = this.#parts.layout.imageAt(backingFile);
      const fault = image === null ? `it stands on ${backingFile}, which is no image of this pool` : null;
      return { ...seen, image, fault };
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== 'HOST_CONFLICT') throw error;
      return { id, sizeBytes: null, image: null, label, layers, fault: error.message };
    }
  }

  async label(id: string, label: VolumeLabel, limit: CallLimit): Promise<void> {
    await this.#lock.hold(checkId(id), limit, async () => {
      if ((await this.#readHeader(id)) === null) throw absent(id);
      // On a full disk nothing can be written anew, and what was not changed can still be taken back.
      if (isDeepStrictEqual(await this.#readLabel(id), label))
        await removeDurably(this.#parts.layout.volumeLabel(id) + PARTIAL_SUFFIX);
      else await this.#writeLabel(id, label);
    });
  }

  /** The file is opened, and nothing of it read but where its first sector is. */
  async checkKey(
    { id, layers = [], encryption }: Pick<VolumeChain, 'id' | 'layers' | 'encryption'>,
    limit: CallLimit,
  ): Promise<void> {
    const { exec, layout, passphrases } = this.#parts;
    await using key = await passphrases.lend(id, encryption);
    if (key === null) return;
    const path = layout.layer(id, layers.at(-1) ?? null);
    const header = await readHeader(path);
    if (header === null) throw absent(id);
    if (!header.encrypted) throw inClear(path);
    // Without QEMU's lock: a guest may use it.
    const args = ['map', '-U', '--output=json', '--max-length=512', ...secretArgs(key, 0), aloneByKey(path)];
    const run = { signal: limit.signal, files: filesOf(key) };
    await exec.run('qemu-img', args, run).catch((error: unknown) => {
      throw explainKey(error, id, encryption);
    });
  }

  /** qemu-img writes the new size last, into the header: a crash leaves the old size, or the new one. */
  async grow(
    id: string,
    sizeBytes: number,
    { layer = null, encryption = null }: { layer?: LayerId; encryption?: Encryption | null },
    limit: CallLimit,
  ): Promise<void> {
    checkSize({ sizeBytes });
    const path = this.#parts.layout.layer(id, layer);
    await this.#lock.hold(checkId(id), limit, async () => {
      const header = await readHeader(path);
      if (header === null) throw absent(id);
      if (header.virtualSizeBytes >= sizeBytes) return;
      await this.#resize(id, path, { sizeBytes, encryption }, limit);
      await syncFile(path);
    });
  }

  /** The label goes last: a crash in between leaves a name that `list` still shows. */
  async remove(id: string, limit: CallLimit): Promise<void> {
    const { layout } = this.#parts;
    const path = layout.volume(id);
    await this.#lock.hold(id, limit, async () => {
      await this.#parts.layers.removeAll(id);
      await removeDurably(path);
      for (const beside of [path, layout.volumeCopy(id), layout.volumeDelta(id), layout.volumeLabel(id)])
        await removeDurably(beside + PARTIAL_SUFFIX);
      await removeDurably(layout.volumeCopy(id));
      await removeDurably(layout.volumeDelta(id));
      await removeDurably(layout.volumeRestore(id));
      await removeDurably(layout.volumeLabel(id));
    });
  }

  /** Opens a volume for a tool in its cage, and takes the right to it back in the end. */
  async lend(
    tool: ImageTool,
    id: string,
    { layer = null, mode = 'to read' }: { layer?: LayerId; mode?: 'to read' | 'to write' } = {},
  ): Promise<AsyncDisposable & { file: FileHandle }> {
    const path = this.#parts.layout.layer(id, layer);
    const { uid, gid } = await stat(path);
    const file = mode === 'to read' ? await tool.lend(path) : await tool.lendToWrite(path);
    return {
      file,
      async [Symbol.asyncDispose]() {
        if (mode === 'to write') await file.chown(uid, gid);
        await file.chmod(VOLUME_MODE);
        await file.close();
      },
    };
  }

  /** Makes what a tool has written to a volume durable. */
  async sync(id: string): Promise<void> {
    await syncFile(this.#parts.layout.volume(id));
  }

  /** Path of the image it is to stand on. */
  async #backingFile({ image, sizeBytes }: VolumeRequest, limit: CallLimit): Promise<string | null> {
    if (image === null) return null;
    const facts = await this.#parts.images.assertIntact(image.id, image.format, limit);
    if (sizeBytes < facts.virtualSizeBytes) {
      throw new AgentError(
        'INVALID_ARGUMENT',
        `A volume of ${sizeBytes} bytes is smaller than its image, ${facts.virtualSizeBytes} bytes`,
      );
    }
    return this.#parts.layout.image(image.id, image.format);
  }

  async #create(request: VolumeRequest, backingFile: string | null, limit: CallLimit): Promise<void> {
    const { exec, passphrases } = this.#parts;
    const backing =
      backingFile === null || request.image === null ? [] : ['-b', backingFile, '-F', request.image.format];
    await using key = await passphrases.lend(request.id, request.encryption);
    const format = ['-f', 'qcow2', '-o', FORMAT_OPTIONS + luksOptions(key)];
    const run = { signal: limit.signal, files: filesOf(key) };
    await this.#publish(request, (partialPath) => {
      const args = ['create', '-q', ...secretArgs(key, 0), ...format, ...backing, partialPath];
      return untilMeasured(() => exec.run('qemu-img', [...args, String(request.sizeBytes)], run));
    });
  }

  async #resize(
    id: string,
    path: string,
    { sizeBytes, encryption }: { sizeBytes: number; encryption: Encryption | null },
    limit: CallLimit,
  ): Promise<void> {
    const { exec, passphrases } = this.#parts;
    await using key = await passphrases.lend(id, encryption);
    const args = ['resize', '-q', ...secretArgs(key, 0), ...imageOptions(key, path), String(sizeBytes)];
    const run = { signal: limit.signal, files: filesOf(key) };
    await exec.run('qemu-img', args, run).catch((error: unknown) => {
      throw explainUse(explainKey(error, id, encryption));
    });
  }

  async #publish(request: VolumeRequest, make: (partialPath: string) => Promise<unknown>): Promise<void> {
    const path = this.#parts.layout.volume(request.id);
    const partialPath = path + PARTIAL_SUFFIX;
    try {
      await removeDurably(partialPath);
      await make(partialPath);
      if (request.label !== undefined) await this.#writeLabel(request.id, request.label);
      await publish(partialPath, path, VOLUME_MODE);
    } catch (error) {
      // Where even this fails, the partial file stays, as the contract allows: `remove` finds it.
      await removeDurably(partialPath).catch(() => undefined);
      throw error;
    }
  }

  async #writeLabel(id: string, label: VolumeLabel): Promise<void> {
    const kept = { version: 1, ...normalLabel(label) };
    await writeDurably(this.#parts.layout.volumeLabel(id), `${JSON.stringify(kept)}\n`, LABEL_MODE);
  }

  /** What the label says, for what has to be known before; nothing where it can't be read. */
  async labelIn(place: Layout, id: string): Promise<Partial<VolumeLabel>> {
    return (await this.#readLabel(id, place)) ?? {};
  }

  async #readLabel(id: string, place: Layout = this.#parts.layout): Promise<VolumeLabel | null> {
    const path = place.volumeLabel(id);
    if (!(await exists(path))) return null;
    return parseLabel(await doing(`read ${path}`, () => readSmall(path)));
  }

  #readHeader(id: string): Promise<Qcow2Header | null> {
    return readHeader(this.#parts.layout.volume(id));
  }
}

/** Null where there is no such file. @throws {AgentError} HOST_CONFLICT: it is no qcow2 file that we would make */
export async function readHeader(path: string): Promise<Qcow2Header | null> {
  if (!(await exists(path))) return null;
  const start = await doing(`read ${path}`, () => readStart(path));
  const header = readQcow2Header(start);
  if (header.ok && !header.value.hasDataFile) return header.value;
  const reason = header.ok ? 'its data are in another file' : header.reason;
  throw new AgentError('HOST_CONFLICT', `${path} is no volume of this agent: ${reason}`);
}

function parseLabel(text: string): VolumeLabel | null {
  const label = readAs(StoredLabel, text);
  return label === null ? null : normalLabel(label as VolumeLabel);
}

/** What is not so is left out. */
function normalLabel(label: VolumeLabel): VolumeLabel {
  const { name, createdAt, instanceId, protected: isProtected = false, encryption = null } = label;
  return {
    name,
    createdAt,
    instanceId,
    ...(isProtected && { protected: true }),
    ...(encryption !== null && { encryption }),
  };
}

export function checkSize({ sizeBytes }: { sizeBytes: number }): void {
  const whole = Number.isSafeInteger(sizeBytes) && sizeBytes % SECTOR_BYTES === 0;
  if (whole && sizeBytes > 0 && sizeBytes <= SIZE_BYTES_MAX) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `A volume has whole sectors of ${SECTOR_BYTES} bytes, up to ${SIZE_BYTES_MAX} bytes, not ${sizeBytes}`,
  );
}

function inClear(path: string): AgentError {
  return new AgentError('HOST_CONFLICT', `${path} is in clear, and of a volume that is encrypted`, {
    hint: 'Somebody has put another file in its place: bring the right one back.',
  });
}

function absent(id: string): AgentError {
  return new AgentError('NOT_FOUND', `There is no volume ${id} in this pool`);
}

function checkAlike(request: VolumeRequest, header: Qcow2Header, backingFile: string | null): void {
  if (header.virtualSizeBytes !== request.sizeBytes) {
    throw new AgentError(
      'HOST_CONFLICT',
      `Volume ${request.id} exists with ${header.virtualSizeBytes} bytes, not ${request.sizeBytes}`,
    );
  }
  const isEncrypted = (request.encryption ?? null) !== null;
  if (header.encrypted !== isEncrypted) {
    const [is, not] = isEncrypted ? ['in clear', 'encrypted'] : ['encrypted', 'in clear'];
    throw new AgentError('HOST_CONFLICT', `Volume ${request.id} exists ${is}, not ${not}`);
  }
  if (header.backingFile === backingFile) return;
  throw new AgentError(
    'HOST_CONFLICT',
    `Volume ${request.id} exists and stands on ${header.backingFile ?? 'nothing'}, not ${backingFile ?? 'nothing'}`,
  );
}

async function readStart(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    return await readAt(file, 0, HEADER_BYTES);
  } finally {
    await file.close();
  }
}
