/** Shared pools of simulated hosts: whose a volume is, and how it passes from node to node. */
import { AgentError } from '../../model/errors.ts';
import type { FencedNode } from '../contracts/storage.ts';
import { isBeside, NODES_FOLDER } from '../qcow2/layout.ts';
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
    if (fence <= this.#files.world.files.fencesOf(from.root))
      throw new AgentError('STALE', `Fence ${fence} of node ${node} has ended`);
    const file = this.#files.get(from.volume(volumeId));
    if (file === undefined) throw this.#notThere(volumeId, node);
    if (file.volume?.imageId !== null) throw notWhole(volumeId, 'it stands on an image of its node');
    if (this.#all().some(({ id, path }) => id === volumeId && isBeside(path)))
      throw notWhole(volumeId, 'snapshots have left layers of it');
    if (file.volume.label == null) throw notWhole(volumeId, 'its label is lost');
    this.#pass(file, layout.volume(volumeId));
  }

  give(volumeId: string, to: string): void {
    const { layout } = this.#files;
    const path = layout.ofNode(to).volume(volumeId);
    const file = this.#files.get(layout.volume(volumeId));
    if (file === undefined) return;
    if (this.#files.get(path) !== undefined)
      throw new AgentError('HOST_CONFLICT', `Node ${to} has a volume ${volumeId} of its own`);
    this.#pass(file, path);
  }

  #pass(file: SimFile, path: string): void {
    const { world } = this.#files;
    world.files.remove(file.path);
    world.files.put({ ...file, path });
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
