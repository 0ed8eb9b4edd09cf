/**
 * Layers of volumes: qcow2 files, each of which stands on another one, or on the volume's own file.
 *
 * They are made and moved by qemu-img, which takes QEMU's lock: a file that a guest writes to is refused. What a layer
 * stands on is in its header, which no guest can write to.
 */
import { readdir } from 'node:fs/promises';
import type { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import type { FoundLayer, LayerRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { Exec } from '../host/exec.ts';
import { explainUse, PARTIAL_SUFFIX, publish, removeDurably, syncFile } from './files.ts';
import { KeyedLock } from './keyed-lock.ts';
import { checkId, isBeside, type Layout } from './layout.ts';
import {
  explainKey,
  fileOptions,
  filesOf,
  imageOptions,
  keyOption,
  type LentKey,
  luksOptions,
  type Passphrases,
  secretArgs,
  untilMeasured,
} from '../host/passphrases.ts';
import { checkSize, FORMAT_OPTIONS, readHeader, VOLUME_MODE } from './volumes.ts';

/** The largest layer, on a slow disk, milliseconds. */
const COMMIT_TIMEOUT_MS = 6 * 3600_000;

export class LayerStore {
  readonly #layout: Layout;
  readonly #exec: Exec;
  readonly #passphrases: Passphrases;
  readonly #lock = new KeyedLock();

  constructor({ layout, exec, passphrases }: { layout: Layout; exec: Exec; passphrases: Passphrases }) {
    this.#layout = layout;
    this.#exec = exec;
    this.#passphrases = passphrases;
  }

  async make(request: LayerRequest, limit: CallLimit): Promise<void> {
    checkSize(request);
    const { volumeId, layer, parent } = request;
    await this.#lock.hold(checkId(volumeId), limit, async () => {
      const found = await this.look(volumeId, layer);
      if (found === null) await this.#create(request, limit);
      else if (found.parent !== parent)
        throw new AgentError('HOST_CONFLICT', `Layer ${layer} of volume ${volumeId} stands on another one`);
    });
  }

  /** @throws {AgentError} HOST_CONFLICT: what it stands on is no layer of its volume. */
  async look(volumeId: string, layer: string, place: Layout = this.#layout): Promise<FoundLayer | null> {
    const path = place.layer(volumeId, layer);
    const header = await readHeader(path);
    if (header === null) return null;
    const parent = place.layerNamed(volumeId, header.backingFile ?? '');
    if (parent !== undefined) return { id: layer, parent, sizeBytes: header.virtualSizeBytes };
    throw new AgentError(
      'HOST_CONFLICT',
      `${path} is no layer of this agent: it stands on ${header.backingFile}`,
    );
  }

  /** Its layers that can be read. */
  async list(volumeId: string, place: Layout = this.#layout): Promise<FoundLayer[]> {
    const layers = (await this.#paths(volumeId, place)).flatMap(
      (path) => place.layerAt(volumeId, path) ?? [],
    );
    const found: FoundLayer[] = [];
    for (const layer of layers) {
      const header = await this.look(volumeId, layer, place).catch(unlessConflict);
      if (header !== null) found.push(header);
    }
    return found;
  }

  async commit(
    volumeId: string,
    layer: string,
    encryption: Encryption | null,
    limit: CallLimit,
  ): Promise<void> {
    await this.#lock.hold(checkId(volumeId), limit, async () => {
      const { parent } = await this.#there(volumeId, layer);
      await using key = await this.#passphrases.lend(volumeId, encryption);
      const files = [layer, parent].map((each) => this.#layout.layer(volumeId, each));
      // What was committed stays in the layer: it is removed as a whole, when nothing stands on it.
      const args = ['commit', '-q', '-d', ...secretArgs(key, 0), ...pairOptions(key, files)];
      await this.#qemuImg(args, { volumeId, encryption, key }, limit, COMMIT_TIMEOUT_MS);
      await syncFile(this.#layout.layer(volumeId, parent));
    });
  }

  async move(
    { volumeId, layer, parent, encryption = null }: Omit<LayerRequest, 'sizeBytes'>,
    limit: CallLimit,
  ): Promise<void> {
    await this.#lock.hold(checkId(volumeId), limit, async () => {
      if ((await this.#there(volumeId, layer)).parent === parent) return;
      const path = this.#layout.layer(volumeId, layer);
      await using key = await this.#passphrases.lend(volumeId, encryption);
      const base = ['-F', 'qcow2', '-b', this.#layout.nameBelow(volumeId, parent)];
      const args = ['rebase', '-q', '-u', ...base, ...secretArgs(key, 0), ...imageOptions(key, path)];
      await this.#qemuImg(args, { volumeId, encryption, key }, limit);
      await syncFile(path);
    });
  }

  async remove(volumeId: string, layer: string, limit: CallLimit): Promise<void> {
    await this.#lock.hold(checkId(volumeId), limit, async () => {
      const path = this.#layout.layer(volumeId, layer);
      await removeDurably(path);
      await removeDurably(path + PARTIAL_SUFFIX);
    });
  }

  /** Layers and memories of a volume that goes. */
  async removeAll(volumeId: string): Promise<void> {
    for (const path of await this.besides(volumeId)) await removeDurably(path);
  }

  /** Paths of its layers and memories, what was being written among them. */
  async besides(volumeId: string): Promise<string[]> {
    return (await this.#paths(volumeId)).filter(isBeside);
  }

  async #paths(volumeId: string, place: Layout = this.#layout): Promise<string[]> {
    const names = await readdir(place.folder('volumes'));
    const files = names.map((name) => place.identify('volumes', name));
    return files.filter((file) => file?.id === volumeId).map((file) => file!.path);
  }

  async #there(volumeId: string, layer: string): Promise<FoundLayer> {
    const found = await this.look(volumeId, layer);
    if (found !== null) return found;
    throw new AgentError('NOT_FOUND', `Volume ${volumeId} has no layer ${layer} in this pool`);
  }

  async #create(
    { volumeId, layer, parent, sizeBytes, encryption = null }: LayerRequest,
    limit: CallLimit,
  ): Promise<void> {
    if ((await readHeader(this.#layout.layer(volumeId, parent))) === null)
      throw new AgentError(
        'NOT_FOUND',
        `Volume ${volumeId} has no file ${parent ?? 'of its own'} in this pool`,
      );
    const path = this.#layout.layer(volumeId, layer);
    const below = this.#layout.nameBelow(volumeId, parent);
    await removeDurably(path + PARTIAL_SUFFIX);
    // Unsafe: a guest may hold what it stands on, and its format and size are given.
    await using key = await this.#passphrases.lend(volumeId, encryption);
    const format = ['-f', 'qcow2', '-o', FORMAT_OPTIONS + luksOptions(key), '-b', below, '-F', 'qcow2'];
    const args = ['create', '-q', '-u', ...secretArgs(key, 0), ...format, path + PARTIAL_SUFFIX];
    await untilMeasured(() =>
      this.#qemuImg([...args, String(sizeBytes)], { volumeId, encryption, key }, limit),
    );
    await publish(path + PARTIAL_SUFFIX, path, VOLUME_MODE);
  }

  async #qemuImg(
    args: string[],
    { volumeId, encryption, key }: { volumeId: string; encryption: Encryption | null; key: LentKey | null },
    limit: CallLimit,
    timeoutMs?: number,
  ): Promise<void> {
    const options = {
      signal: limit.signal,
      files: filesOf(key),
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    await this.#exec.run('qemu-img', args, options).catch((error: unknown) => {
      throw explainUse(explainKey(error, volumeId, encryption));
    });
  }
}

/** A layer and what it stands on, both by one passphrase; else what the header says is followed. */
function pairOptions(key: LentKey | null, files: readonly string[]): string[] {
  const [top = '', below = ''] = files;
  if (key === null) return ['-f', 'qcow2', top];
  const options = [
    ...['driver=qcow2', ...keyOption(key), ...fileOptions(top)],
    ...['backing.driver=qcow2', ...keyOption(key, 'backing.'), ...fileOptions(below, 'backing.')],
  ];
  return ['--image-opts', options.join(',')];
}

function unlessConflict(error: unknown): null {
  if (error instanceof AgentError && error.code === 'HOST_CONFLICT') return null;
  throw error;
}
