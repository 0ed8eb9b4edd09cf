/** Shared pools of simulated hosts: whose a volume is, and how it passes from node to node. */
import { AgentError } from '../../model/errors.ts';
import { LAYERS_MAX } from '../../model/layers.ts';
import type { FencedNode, RecordPlace } from '../contracts/storage.ts';
import { isPassing, type Layout, NODES_FOLDER } from '../qcow2/layout.ts';
import { newFile } from './files.ts';
import type { PoolFiles } from './pool-files.ts';
import type { SimFile } from './state.ts';

export class SimSharing {
  readonly #files: PoolFiles;

  constructor(files: PoolFiles) {
    this.#files = files;
  }

  endFences(fence: number): void {
    const { layout, world } = this.#files;
    if (fence > world.files.fencesOf(layout.root)) world.files.setFences(layout.root, fence);
    world.touch();
  }

  ownerOf(volumeId: string): string | null {
    const { layout } = this.#files;
    if (this.#files.get(layout.volume(volumeId)) !== undefined) return this.#self;
    const nodes = this.#all().flatMap(({ path }) => path.slice(layout.base.length).split('/')[2] ?? []);
    const owner = nodes.find((node) => this.#files.get(layout.ofNode(node).volume(volumeId)) !== undefined);
    return owner ?? null;
  }

  take(volumeId: string, { node, fence }: FencedNode): void {
    const { layout } = this.#files;
    if (this.#files.get(layout.volume(volumeId)) !== undefined) return;
    const from = layout.ofNode(node);
    const file = this.#judged(volumeId, { node, fence });
    for (const beside of this.#passing(volumeId, from)) this.#pass(beside, from, layout);
    this.#pass(file, from, layout);
  }

  /** @throws {AgentError} As `takeVolume`. */
  examine(volumeId: string, fenced: FencedNode): SimFile {
    return this.#files.get(this.#files.layout.volume(volumeId)) ?? this.#judged(volumeId, fenced);
  }

  readRecord({ volumeId, instanceId }: RecordPlace, node: string | null): string | null {
    const { layout } = this.#files;
    const isOwn = node === null || this.#files.get(layout.volume(volumeId)) !== undefined;
    const path = (isOwn ? layout : layout.ofNode(node)).snapshotRecord(volumeId, instanceId);
    return this.#files.get(path)?.text ?? null;
  }

  writeRecord({ volumeId, instanceId }: RecordPlace, text: string | null): void {
    const { layout } = this.#files;
    const path = layout.snapshotRecord(volumeId, instanceId);
    if (text === null) {
      this.#files.remove(path);
      return;
    }
    if (this.#files.get(layout.volume(volumeId)) === undefined)
      throw new AgentError('NOT_FOUND', `Volume ${volumeId} is not this node's`);
    const file = { kind: 'volume', id: volumeId, path, sizeBytes: Buffer.byteLength(text), text } as const;
    this.#files.put(newFile(file));
  }

  #judged(volumeId: string, { node, fence }: FencedNode): SimFile {
    const from = this.#files.layout.ofNode(node);
    if (fence <= this.#files.world.files.fencesOf(from.root))
      throw new AgentError('STALE', `Fence ${fence} of node ${node} has ended`);
    const file = this.#files.get(from.volume(volumeId));
    if (file === undefined) throw this.#notThere(volumeId, node);
    if (file.volume?.imageId !== null) throw notWhole(volumeId, 'it stands on an image of its node');
    if (file.volume.label == null) throw notWhole(volumeId, 'its label is lost');
    this.#assertTree(volumeId, from);
    return file;
  }

  /** Each layer leads down to the volume's own file, by files of the volume alone. */
  #assertTree(volumeId: string, from: Layout): void {
    const layers = this.#passing(volumeId, from).filter(({ volume }) => volume !== null);
    for (const { path } of layers) {
      const seen = new Set<string>();
      for (let at = path; at !== from.volume(volumeId); at = this.#files.get(at)?.volume?.below ?? '') {
        if (from.layerAt(volumeId, at) === undefined || this.#files.get(at) === undefined)
          throw wrong(volumeId, `a layer stands on "${at}", which is no file of its volume`);
        if (seen.has(at) || seen.size > LAYERS_MAX)
          throw wrong(volumeId, `a layer stands on more than ${LAYERS_MAX + 1} layers, or on itself`);
        seen.add(at);
      }
    }
  }

  /** What passes with it. The memory of a snapshot stays. */
  #passing(volumeId: string, place: Layout): SimFile[] {
    return this.#files.besides(volumeId, place).filter(({ path }) => isPassing(path));
  }

  give(volumeId: string, to: string): void {
    const { layout } = this.#files;
    const other = layout.ofNode(to);
    const file = this.#files.get(layout.volume(volumeId));
    if (file === undefined) return;
    if (this.#files.get(other.volume(volumeId)) !== undefined)
      throw new AgentError('HOST_CONFLICT', `Node ${to} has a volume ${volumeId} of its own`);
    for (const beside of this.#passing(volumeId, layout)) this.#pass(beside, layout, other);
    this.#pass(file, layout, other);
  }

  #pass(file: SimFile, from: Layout, to: Layout): void {
    const { world } = this.#files;
    const there = (path: string) => to.root + path.slice(from.root.length);
    const { volume } = file;
    const below = volume?.below;
    world.files.remove(file.path);
    world.files.put({
      ...file,
      path: there(file.path),
      volume: volume === null || below === undefined ? volume : { ...volume, below: there(below) },
    });
    world.touch();
  }

  #notThere(volumeId: string, node: string): AgentError {
    const owner = this.ownerOf(volumeId);
    return owner === null
      ? new AgentError('NOT_FOUND', `Node ${node} has no volume ${volumeId} in this pool`)
      : new AgentError('ILLEGAL_STATE', `Volume ${volumeId} is not node ${node}'s: node ${owner} has it`);
  }

  /** Of all nodes. */
  #all(): SimFile[] {
    const { layout, world } = this.#files;
    return [...world.files.all()].filter(({ path }) => path.startsWith(`${layout.base}/${NODES_FOLDER}/`));
  }

  get #self(): string {
    const { layout } = this.#files;
    return layout.root.slice(layout.root.lastIndexOf('/') + 1);
  }
}

function notWhole(volumeId: string, why: string): AgentError {
  return new AgentError('UNSUPPORTED', `Volume ${volumeId} can't pass to another node: ${why}`);
}

function wrong(volumeId: string, why: string): AgentError {
  return new AgentError('HOST_CONFLICT', `Volume ${volumeId} does not pass to another node: ${why}`);
}
