/**
 * Where each file of a pool lies: a pure function of ids, and back from names to ids.
 *
 *   images/ID.qcow2 | ID.raw     published images          images/ID.json     their records
 *   volumes/ID.qcow2             volumes                   volumes/ID.json    their labels
 *   volumes/ID.LAYER.qcow2       layers of volumes, each by a UUID of its own
 *   volumes/ID.SNAPSHOT.memory   what the memory of a guest that boots from it held
 *   volumes/ID.SNAPSHOT.nvram    what its firmware kept then
 *   volumes/ID.INSTANCE.nvram    of a shared pool: what the firmware of the guest that boots from it keeps
 *   volumes/ID.INSTANCE.snapshots  of a shared pool: what a node has to know that takes over the guest that boots from it
 *   volumes/ID.wipe              one that is deleted, until its bytes are overwritten; ID.LAYER.qcow2.wipe,
 *                                ID.SNAPSHOT.memory.wipe and the like: what was beside it
 *   volumes/ID.copy              its bytes on their way to a backup; ID.restore: out of one
 *   shares/ID/                   folders that guests mount          shares/ID.json     their labels
 *   volumes/ID.delta             its clusters on their way to a backup, or those that changed
 *   seeds/ID.iso                 NoCloud seeds
 *   consoles/ID.log              console logs, and ID.log.N that virtlogd rotated away
 *
 * In a pool that several nodes share all of it lies in nodes/NODE/, a folder for each node: whose folder a volume is in,
 * that node has it.
 *
 * What is being written has `.partial` at the end, and a seed's inputs lie in seeds/ID.work/. An image on its way is
 * ID.partial (the source's bytes), ID.fetch (what they are a part of), ID.signature, ID.unpacked and ID.converted. No
 * name ever comes from outside but as a UUID.
 */
import { basename, dirname, isAbsolute, join, normalize } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { LayerId } from '../../model/layers.ts';
import { IMAGE_FORMATS, type ImageFormat } from '../../model/storage.ts';
import type { StoredFile } from '../contracts/storage.ts';

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const WHOLE_UUID = new RegExp(`^${UUID}$`);
const WIPE_SUFFIX = '.wipe';

const IMAGE_SUFFIXES =
  'qcow2|raw|partial|unpacked|converted|signature|fetch|fetch\\.partial|json|json\\.partial';

const VOLUME_SUFFIXES = `(?:(?:${UUID}\\.)?qcow2|json|copy|delta)(?:\\.partial)?|restore|wipe|${UUID}\\.(?:memory|(?:nvram|snapshots)(?:\\.partial)?|(?:qcow2|memory|nvram|snapshots)\\.wipe)`;

/** The names in each folder that are ours. */
const FOLDERS = [
  { name: 'images', kind: 'image', ours: ourNames(IMAGE_SUFFIXES) },
  { name: 'volumes', kind: 'volume', ours: ourNames(VOLUME_SUFFIXES) },
  { name: 'shares', kind: 'share', ours: new RegExp(`^(${UUID})(?:\\.(?:json(?:\\.partial)?|partial))?$`) },
  { name: 'seeds', kind: 'seed', ours: ourNames('iso|work') },
  { name: 'consoles', kind: 'console', ours: ourNames('log|log\\.\\d{1,4}') },
] as const satisfies { name: string; kind: StoredFile['kind']; ours: RegExp }[];

export type Folder = (typeof FOLDERS)[number]['name'];

/** In a shared pool: a folder for each node, by its id. */
export const NODES_FOLDER = 'nodes';

export class Layout {
  /** The pool's folder, with those of other nodes where it is shared. */
  readonly base: string;
  #root: string;

  /** @throws {AgentError} INVALID_ARGUMENT: not an absolute, normal path. */
  constructor(root: string) {
    if (!isAbsolute(root) || normalize(root) !== root || root.endsWith('/')) {
      throw new AgentError('INVALID_ARGUMENT', `A pool's path is absolute and normal, not ${excerpt(root)}`);
    }
    this.base = root;
    this.#root = root;
  }

  /** Where the folders below lie. */
  get root(): string {
    return this.#root;
  }

  /** The pool's folder, and those between it and the root, which comes last. */
  get wayToRoot(): string[] {
    return this.base === this.root ? [this.root] : [this.base, dirname(this.root), this.root];
  }

  /** From now on all paths are those of this node's folder. @throws {AgentError} INVALID_ARGUMENT: no UUID. */
  enterNode(nodeId: string): void {
    this.#root = this.nodeFolder(nodeId);
  }

  nodeFolder(nodeId: string): string {
    return join(this.base, NODES_FOLDER, checkId(nodeId));
  }

  get isShared(): boolean {
    return this.base !== this.#root;
  }

  /** The same pool as another node sees it. */
  ofNode(nodeId: string): Layout {
    const other = new Layout(this.base);
    other.enterNode(nodeId);
    return other;
  }

  readonly folders: readonly Folder[] = FOLDERS.map(({ name }) => name);

  folder(name: Folder): string {
    return join(this.root, name);
  }

  image(id: string, format: ImageFormat): string {
    return this.#file('images', id, checkFormat(format));
  }

  imagePartial(id: string): string {
    return this.#file('images', id, 'partial');
  }

  imageFetch(id: string): string {
    return this.#file('images', id, 'fetch');
  }

  imageSignature(id: string): string {
    return this.#file('images', id, 'signature');
  }

  imageUnpacked(id: string): string {
    return this.#file('images', id, 'unpacked');
  }

  imageConverted(id: string): string {
    return this.#file('images', id, 'converted');
  }

  imageRecord(id: string): string {
    return this.#file('images', id, 'json');
  }

  volume(id: string): string {
    return this.#file('volumes', id, 'qcow2');
  }

  layer(volumeId: string, layer: LayerId): string {
    return layer === null
      ? this.volume(volumeId)
      : this.#file('volumes', volumeId, `${checkId(layer)}.qcow2`);
  }

  memory(volumeId: string, snapshotId: string): string {
    return this.#file('volumes', volumeId, `${checkId(snapshotId)}.memory`);
  }

  nvram(volumeId: string, keeper: string): string {
    return this.#file('volumes', volumeId, `${checkId(keeper)}.nvram`);
  }

  snapshotRecord(volumeId: string, instanceId: string): string {
    return this.#file('volumes', volumeId, `${checkId(instanceId)}.snapshots`);
  }

  /** Its bytes at one moment, for a backup. */
  volumeCopy(id: string): string {
    return this.#file('volumes', id, 'copy');
  }

  /** Its clusters at one moment, for a backup. */
  volumeDelta(id: string): string {
    return this.#file('volumes', id, 'delta');
  }

  /** Its bytes out of a backup, before it is there. */
  volumeRestore(id: string): string {
    return this.#file('volumes', id, 'restore');
  }

  /** Of a volume that is no more, until it is overwritten. */
  volumeWipe(id: string): string {
    return this.#file('volumes', id, 'wipe');
  }

  volumeLabel(id: string): string {
    return this.#file('volumes', id, 'json');
  }

  share(id: string): string {
    return join(this.root, 'shares', checkId(id));
  }

  shareLabel(id: string): string {
    return this.#file('shares', id, 'json');
  }

  seed(instanceId: string): string {
    return this.#file('seeds', instanceId, 'iso');
  }

  seedWork(instanceId: string): string {
    return this.#file('seeds', instanceId, 'work');
  }

  consoleLog(instanceId: string): string {
    return this.#file('consoles', instanceId, 'log');
  }

  /** The image that has exactly this path; null where none can have it. */
  imageAt(path: string): { id: string; format: ImageFormat } | null {
    const [id = '', ...suffix] = basename(path).split('.');
    const format = IMAGE_FORMATS.find((each) => each === suffix.join('.'));
    if (format === undefined || !WHOLE_UUID.test(id) || this.image(id, format) !== path) return null;
    return { id, format };
  }

  /** The layer of a volume that has exactly this path, null for its own file; undefined where none can have it. */
  layerAt(volumeId: string, path: string): LayerId | undefined {
    const [, layer = ''] = basename(path).split('.');
    if (path === this.volume(volumeId)) return null;
    return WHOLE_UUID.test(layer) && this.layer(volumeId, layer) === path ? layer : undefined;
  }

  /** The same by the name that a header has: one without a folder is that of a file beside it. */
  layerNamed(volumeId: string, name: string): LayerId | undefined {
    return this.layerAt(volumeId, name.includes('/') ? name : join(this.folder('volumes'), name));
  }

  /** What the header of a layer calls the file that it stands on: in a shared pool it holds in any node's folder. */
  nameBelow(volumeId: string, parent: LayerId): string {
    const path = this.layer(volumeId, parent);
    return this.isShared ? basename(path) : path;
  }

  /** What a name in a folder stands for; null where it is not one of ours. */
  identify(folder: Folder, name: string): StoredFile | null {
    const { kind, ours } = FOLDERS.find((entry) => entry.name === folder)!;
    const id = ours.exec(name)?.[1];
    return id === undefined ? null : { kind, id, path: join(this.root, folder, name) };
  }

  #file(folder: Folder, id: string, suffix: string): string {
    return join(this.root, folder, `${checkId(id)}.${suffix}`);
  }
}

/** Whether a volume's file is named by two ids: a layer, a memory, firmware variables, or a record of snapshots. One that is to be wiped is no volume's any more. */
export function isBeside(path: string): boolean {
  return WHOLE_UUID.test(basename(path).split('.')[1] ?? '') && !path.endsWith(WIPE_SUFFIX);
}

/** Whether what is beside a volume passes with it to another node: a memory, and what was being written, does not. */
export function isPassing(path: string): boolean {
  return isBeside(path) && /\.(?:qcow2|nvram|snapshots)$/.test(path);
}

/** What a layer or a memory is called while it waits for its wipe. */
export function besideWipe(path: string): string {
  return path + WIPE_SUFFIX;
}

/** @throws {AgentError} INVALID_ARGUMENT: not a UUID in lower case. */
export function checkId(id: string): string {
  if (typeof id === 'string' && WHOLE_UUID.test(id)) return id;
  throw new AgentError('INVALID_ARGUMENT', `An id is a UUID in lower case, not ${excerpt(id)}`);
}

/** @throws {AgentError} INVALID_ARGUMENT: no format that images are kept in. */
export function checkFormat(format: ImageFormat): ImageFormat {
  if (IMAGE_FORMATS.includes(format)) return format;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `An image's format is one of ${IMAGE_FORMATS.join(', ')}, not ${excerpt(format)}`,
  );
}

function ourNames(suffixes: string): RegExp {
  return new RegExp(`^(${UUID})\\.(?:${suffixes})$`);
}

/** Longest excerpt of a caller's value that is put into a message, in characters. */
const EXCERPT_LIMIT = 80;

function excerpt(value: unknown): string {
  return String(JSON.stringify(value)).slice(0, EXCERPT_LIMIT);
}
