/**
 * Backup repository: backups of instances' volumes on an object store, which need nothing but that store (and the key) to be
 * restored anywhere.
 *
 *   backups/chunks/ab/abcd…          4 MiB of a disk, or a page of an index, by identity
 *   backups/manifests/INSTANCE/ID    written last: makes the backup
 *   backups/writers/ID, removers/ID  who is at work (markers.ts)
 *
 * Promises:
 *  - A backup is there whole, or not at all; writing one again under its id goes on where it broke off. What it names is
 *    durable before it is there.
 *  - What is read is what was written: each object is checked by its identity before a byte of it is used.
 *  - Each backup names all that it needs: an incremental one is restored, and outlives its parent, like a full one.
 *  - Removing takes manifests first; chunks go only when every manifest of the repository has been read and none names
 *    them. What can't be read stops the removing: never destroy on doubt.
 *  - Memory is bounded: a few chunks are under way at once (in-flight.ts); the collector holds the ids of at most CHUNKS_LIMIT.
 *
 * How a disk is read and written is not known here: extents come in, and go out to a sink.
 */
import { randomUUID } from 'node:crypto';
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { DiskSink } from '../../drivers/contracts/extents.ts';
import type { ObjectFacts, ObjectStore } from '../../drivers/contracts/objects.ts';
import { BackupManifest, type BackupVolume, CHAIN_LIMIT, depthOf } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { BackupWriter, type WriteOptions } from './backup-writer.ts';
import { Chunks } from './chunks.ts';
import { Codec, damaged } from './codec.ts';
import { UNDER_WAY_BYTES } from './in-flight.ts';
import { type BackupRequest, manifestOf } from './manifest.ts';
import { Markers } from './markers.ts';
import { type ReadOptions, readAs, VolumeReader } from './volume-reader.ts';

const ROOT = 'backups';
const MANIFESTS = `${ROOT}/manifests/`;
/** Chunks whose ids the collector holds: 8 TiB of full chunks, about 150 MB of memory. */
const CHUNKS_LIMIT = 2_000_000;
/** Unreferenced chunks younger than this are left, milliseconds: clocks may differ. */
const GRACE_MS = 3_600_000;

export interface RepositoryParts {
  store: ObjectStore;
  clock: Clock;
  /** KEY_BYTES; null for a repository in clear. */
  key: Uint8Array | null;
  /** Bytes of disks that are on their way to or from the store at once. @default UNDER_WAY_BYTES */
  underWayBytes?: number;
}

export interface VolumeName {
  instanceId: string;
  /** Of the backup. */
  id: string;
  volumeId: string;
}

export interface RemoveOptions extends CallOptions {
  /**
   * Who removes, named in the journal before: what a crash has cut off goes on at once under the same name, and keeps
   * everyone else waiting until then.
   *
   * @default somebody new
   */
  remover?: string;
}

export class BackupRepository {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #chunks: Chunks;
  readonly #reader: VolumeReader;
  readonly #limitBytes: number;
  readonly #markers: Markers;

  constructor({ store, clock, key, underWayBytes = UNDER_WAY_BYTES }: RepositoryParts) {
    this.#store = store;
    this.#clock = clock;
    this.#chunks = new Chunks(store, new Codec(key), ROOT);
    this.#reader = new VolumeReader(this.#chunks, underWayBytes);
    this.#limitBytes = underWayBytes;
    this.#markers = new Markers(store, clock, ROOT);
  }

  /**
   * Writes a backup. One that fails leaves its chunks to be gone on with; `abandon` gives them up.
   *
   * @throws {AgentError} UNAVAILABLE: backups are being removed, or the store can't be asked. INVALID_ARGUMENT: the extents or
   *   the parent don't fit. NOT_FOUND: the parent is gone.
   */
  async write(request: BackupRequest, options: WriteOptions = {}): Promise<BackupManifest> {
    const mayGoOn = await this.#markers.begin('writers', request.id, options);
    const done = await this.#begin(request, options);
    if (done !== null) return done;
    await using batch = this.#store.batch(options);
    const writer = new BackupWriter({
      chunks: this.#chunks,
      reader: this.#reader,
      batch,
      limitBytes: this.#limitBytes,
      mayGoOn,
      options,
    });
    const volumes: BackupVolume[] = [];
    for (const source of request.volumes) {
      const before = request.parent?.volumes.find(({ id }) => id === source.id) ?? null;
      volumes.push(await writer.volume(source, before));
    }
    const nvram = request.nvram == null ? null : await writer.nvram(request.nvram);
    await batch.settle();
    const manifest = manifestOf(request, { volumes, nvram, createdAt: timestamp(this.#clock) });
    mayGoOn();
    const { id, instanceId } = request;
    await this.#chunks.writeNamed(keyOf(instanceId, id), Buffer.from(JSON.stringify(manifest)), options);
    await this.#markers.end('writers', id, options);
    return manifest;
  }

  /** Gives up a backup that was begun and will not be gone on with; one that was finished stays. */
  async abandon(id: string, options: CallOptions = {}): Promise<void> {
    await this.#markers.end('writers', id, options);
  }

  /** Null where there is none. @throws {AgentError} DATA_DAMAGED, PERMISSION_DENIED (the key) */
  async manifest(instanceId: string, id: string, options: CallOptions = {}): Promise<BackupManifest | null> {
    return this.#readManifest(keyOf(instanceId, id), options);
  }

  /** All backups of one instance, by time. */
  async list(instanceId: string, options: CallOptions = {}): Promise<BackupManifest[]> {
    const manifests: BackupManifest[] = [];
    for await (const manifest of this.#manifests(`${MANIFESTS}${instanceId}/`, options))
      manifests.push(manifest);
    return manifests.sort((a, b) => Date.parse(a.createdAt) - Date.parse(b.createdAt));
  }

  /** The backup of this id, whosever it is; only its own manifest is read. Null where there is none. */
  async find(id: string, options: CallOptions = {}): Promise<BackupManifest | null> {
    for await (const { key } of this.#objects(MANIFESTS, options))
      if (key.endsWith(`/${id}`)) return this.#readManifest(key, options);
    return null;
  }

  /** Instances that have backups here: where a lost node's are found again. */
  async instances(options: CallOptions = {}): Promise<string[]> {
    const ids = new Set<string>();
    for await (const { key } of this.#objects(MANIFESTS, options))
      ids.add(key.slice(MANIFESTS.length).split('/')[0] ?? '');
    return [...ids];
  }

  /**
   * Writes a volume as it was at a backup.
   *
   * @param sink Zero at first, and of the volume's `virtualSizeBytes`.
   * @throws {AgentError} NOT_FOUND. DATA_DAMAGED: what is in the sink then is not to be used.
   */
  async restore(of: VolumeName, sink: DiskSink, options: ReadOptions = {}): Promise<void> {
    const volume = await this.#volumeOf(of, options);
    await this.#reader.restore(volume, sink, options);
  }

  /** Bytes of data that a volume of a backup has, by its index. @throws {AgentError} NOT_FOUND, DATA_DAMAGED */
  async dataBytes(of: VolumeName, options: CallOptions = {}): Promise<number> {
    return await this.#reader.dataBytes(await this.#volumeOf(of, options), options);
  }

  /** Reads and checks every byte that a backup names. @throws {AgentError} NOT_FOUND, DATA_DAMAGED */
  async verify(
    { instanceId, id }: { instanceId: string; id: string },
    options: CallOptions = {},
  ): Promise<void> {
    const nowhere: DiskSink = { write: async () => undefined, zero: async () => undefined };
    const { volumes } = await this.#existing(instanceId, id, options);
    for (const volume of volumes) await this.#reader.restore(volume, nowhere, options);
    await this.nvram({ instanceId, id }, options);
  }

  /** Firmware variables of its guest; null where it has none. @throws {AgentError} NOT_FOUND, DATA_DAMAGED */
  async nvram(
    { instanceId, id }: { instanceId: string; id: string },
    options: CallOptions = {},
  ): Promise<Uint8Array | null> {
    const { nvram } = await this.#existing(instanceId, id, options);
    if (nvram === undefined) return null;
    const bytes = await this.#chunks.read(nvram.chunk, options);
    if (bytes.length === nvram.sizeBytes) return bytes;
    throw damaged(`firmware variables of backup ${id}`, `they have ${bytes.length} bytes`);
  }

  /**
   * Removes backups, as `decideRetention` orders them, and leaves their chunks to `collect`.
   *
   * @throws {AgentError} UNAVAILABLE: a backup is being written.
   */
  async remove(instanceId: string, ids: readonly string[], options: RemoveOptions = {}): Promise<void> {
    await this.#removing(options, async () => {
      for (const id of ids) await this.#store.removeMany([keyOf(instanceId, id)], options);
    });
  }

  /** Removes chunks that no backup names. @throws {AgentError} What keeps it from knowing: then nothing is removed. */
  async collect(options: RemoveOptions = {}): Promise<{ removedChunks: number; removedBytes: number }> {
    return await this.#removing(options, async (mayGoOn) => {
      const named = await this.#namedChunks(options);
      let removedChunks = 0;
      let removedBytes = 0;
      for await (const page of this.#pages(this.#chunks.prefix, options)) {
        const garbage = page.filter((object) => this.#isGarbage(object, named));
        mayGoOn();
        await this.#store.removeMany(
          garbage.map(({ key }) => key),
          options,
        );
        removedChunks += garbage.length;
        removedBytes += garbage.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      }
      return { removedChunks, removedBytes };
    });
  }

  async #removing<T>(options: RemoveOptions, act: (mayGoOn: () => void) => Promise<T>): Promise<T> {
    const { remover: id = randomUUID() } = options;
    const mayGoOn = await this.#markers.begin('removers', id, options);
    try {
      return await act(mayGoOn);
    } finally {
      await this.#markers.end('removers', id, options);
    }
  }

  /** The backup where it is done already. What can't be begun leaves no marker. */
  async #begin(request: BackupRequest, options: CallOptions): Promise<BackupManifest | null> {
    let begun = false;
    try {
      const done = await this.manifest(request.instanceId, request.id, options);
      if (done !== null) return done;
      await this.#checkParent(request, options);
      begun = true;
      return null;
    } finally {
      if (!begun) await this.#markers.end('writers', request.id, options);
    }
  }

  async #checkParent({ instanceId, parent, volumes }: BackupRequest, options: CallOptions): Promise<void> {
    if (parent === null) return;
    await this.#existing(instanceId, parent.id, options);
    if (depthOf(parent) >= CHAIN_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `Backup ${parent.id} goes back over ${CHAIN_LIMIT - 1} others`, {
        hint: 'Make a full backup.',
      });
    }
    for (const { id, virtualSizeBytes } of volumes) {
      const before = parent.volumes.find((volume) => volume.id === id);
      if (before !== undefined && before.virtualSizeBytes > virtualSizeBytes) {
        throw new AgentError('INVALID_ARGUMENT', `Volume ${id} is smaller than in backup ${parent.id}`);
      }
    }
  }

  async #volumeOf({ instanceId, id, volumeId }: VolumeName, options: CallOptions): Promise<BackupVolume> {
    const { volumes } = await this.#existing(instanceId, id, options);
    const volume = volumes.find((each) => each.id === volumeId);
    if (volume !== undefined) return volume;
    throw new AgentError('NOT_FOUND', `Backup ${id} has no volume ${volumeId}`);
  }

  async #existing(instanceId: string, id: string, options: CallOptions): Promise<BackupManifest> {
    const manifest = await this.manifest(instanceId, id, options);
    if (manifest !== null) return manifest;
    throw new AgentError('NOT_FOUND', `There is no backup ${id}`, { hint: 'Make a full backup.' });
  }

  async #namedChunks(options: CallOptions): Promise<Set<string>> {
    const named = new Set<string>();
    for await (const { volumes, nvram } of this.#manifests(MANIFESTS, options)) {
      if (nvram !== undefined) named.add(nvram.chunk);
      for (const volume of volumes) {
        for (const page of volume.index) named.add(page);
        for await (const entry of this.#reader.entries(volume, options))
          if ('chunk' in entry) named.add(entry.chunk);
        if (named.size > CHUNKS_LIMIT) {
          throw new AgentError('LIMIT_REACHED', `The repository has more than ${CHUNKS_LIMIT} chunks`, {
            hint: 'Divide it: one prefix for each group of nodes.',
          });
        }
      }
    }
    return named;
  }

  #isGarbage({ key, modifiedAtMs }: ObjectFacts, named: ReadonlySet<string>): boolean {
    const id = this.#chunks.idIn(key);
    return id !== null && !named.has(id) && this.#clock.now() - modifiedAtMs > GRACE_MS;
  }

  async *#manifests(prefix: string, options: CallOptions): AsyncGenerator<BackupManifest> {
    for await (const { key } of this.#objects(prefix, options)) {
      const manifest = await this.#readManifest(key, options);
      if (manifest !== null) yield manifest;
    }
  }

  async #readManifest(key: string, options: CallOptions): Promise<BackupManifest | null> {
    const plain = await this.#chunks.readNamed(key, options);
    if (plain === null) return null;
    const manifest = readAs(BackupManifest, plain, key);
    if (keyOf(manifest.instanceId, manifest.id) !== key)
      throw damaged(key, 'it is the manifest of another backup');
    return manifest;
  }

  async *#objects(prefix: string, options: CallOptions): AsyncGenerator<ObjectFacts> {
    for await (const page of this.#pages(prefix, options)) yield* page;
  }

  async *#pages(prefix: string, options: CallOptions): AsyncGenerator<ObjectFacts[]> {
    for (let after = ''; ; ) {
      const { objects, next } = await this.#store.list({ prefix, after }, options);
      yield objects;
      if (next === null) return;
      after = next;
    }
  }
}

function keyOf(instanceId: string, id: string): string {
  return `${MANIFESTS}${instanceId}/${id}`;
}
