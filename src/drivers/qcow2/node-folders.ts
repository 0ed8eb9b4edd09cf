/**
 * The folders of nodes in a shared pool, and how a volume passes from one to another.
 *
 *   <pool>/nodes/<node>/berth-node.json     whose folder it is, and up to which number its fences have ended
 *   <pool>/nodes/<node>/volumes/ …          as in any pool
 *
 *   judged ─▶ layers and what else is beside it, linked; label, copied ─▶ the volume's own file, renamed: from now on it
 *   is the taker's ─▶ names and label of before, removed
 *
 * The one rename is what decides: of two takers one finds nothing to rename any more. A node that has lost a volume can't
 * open it by its name, whoever asks it to, nor a layer, whose header names the file below by its name alone. Wherever a
 * crash breaks it off, the same call goes on from there, or `give` takes it back: whoever has the own file has all of
 * them. What is left of labels and links without it says nothing, and goes with the next call; no tool can open it as a
 * disk.
 */
import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Id, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { type Static, Type } from '../../model/schema.ts';
import { findFault } from '../../model/validate.ts';
import type { FencedNode, FoundVolume } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import {
  errno,
  ifThere,
  lstatIfThere,
  readAs,
  readSmall,
  readWhole,
  removeDurably,
  syncFolder,
  writeDurably,
} from './files.ts';
import { KeyedLock } from './keyed-lock.ts';
import { type LayerHeaderParts, LayerHeaders } from './layer-headers.ts';
import { checkId, type Layout, NODES_FOLDER } from './layout.ts';
import {
  dropAll,
  dropLinked,
  judgePassing,
  linkAll,
  namesBeside,
  type PassingFiles,
  RECORD_BYTES_MAX,
} from './passing-files.ts';
import type { VolumeStore } from './volumes.ts';

const RECORD_NAME = 'berth-node.json';
const RECORD_MODE = 0o600;

const NodeRecord = strict({
  version: Type.Literal(1),
  nodeId: Id,
  /** Its fences up to this one have ended; 0 where there was none. */
  fence: Type.Integer({ minimum: 0 }),
});
type NodeRecord = Static<typeof NodeRecord>;

export class NodeFolders {
  readonly #layout: Layout;
  readonly #volumes: VolumeStore;
  readonly #headers: LayerHeaders;
  readonly #lock = new KeyedLock();
  #nodeId: string | null = null;

  constructor({ layout, volumes, ...tools }: LayerHeaderParts & { layout: Layout; volumes: VolumeStore }) {
    this.#layout = layout;
    this.#volumes = volumes;
    this.#headers = new LayerHeaders(tools);
  }

  enter(nodeId: string): void {
    this.#layout.enterNode(nodeId);
    this.#nodeId = nodeId;
  }

  /** Says whose the node's folder is, which is there. */
  async prepare(): Promise<void> {
    if ((await readRecord(this.#layout.root)) === null) await this.#writeRecord(0);
  }

  async endFences(fence: number): Promise<void> {
    const known = await readRecord(this.#layout.root);
    if (known === null || known.fence < fence) await this.#writeRecord(fence);
  }

  async ownerOf(volumeId: string): Promise<string | null> {
    checkId(volumeId);
    const others = (await readdir(join(this.#layout.base, NODES_FOLDER))).filter(isId);
    for (const node of [this.self, ...others.filter((each) => each !== this.self)])
      if (await isThere(this.#layout.ofNode(node).volume(volumeId))) return node;
    return null;
  }

  async take(volumeId: string, { node, fence }: FencedNode, limit: CallLimit): Promise<FoundVolume> {
    return await this.#lock.hold(checkId(volumeId), limit, async () => {
      const from = this.#layout.ofNode(node);
      if (!(await isThere(this.#layout.volume(volumeId)))) {
        await this.#assertFence(volumeId, from, { node, fence });
        await this.#link(volumeId, from, node, limit).catch(async (error: unknown) => {
          await dropAll(this.#layout, volumeId);
          // Another node may have taken it while it was looked at.
          throw (await isThere(from.volume(volumeId))) ? error : await this.#notThere(volumeId, node);
        });
        await this.#pass(volumeId, { from, to: this.#layout, owner: node });
      }
      if (node !== this.self) await clear(volumeId, from, this.#layout);
      return (await this.#volumes.find(volumeId)) ?? this.#lost(volumeId);
    });
  }

  async give(volumeId: string, to: string, limit: CallLimit): Promise<void> {
    await this.#lock.hold(checkId(volumeId), limit, async () => {
      const other = this.#layout.ofNode(to);
      if (await isThere(this.#layout.volume(volumeId))) {
        if (await isThere(other.volume(volumeId)))
          throw new AgentError('HOST_CONFLICT', `Node ${to} has a volume ${volumeId} of its own`);
        await linkAll(await namesBeside(this.#layout, volumeId), this.#layout, other);
        await this.#pass(volumeId, { from: this.#layout, to: other, owner: this.self });
      }
      await dropAll(this.#layout, volumeId);
      await removeDurably(this.#layout.volumeLabel(volumeId));
    });
  }

  /** What a volume that is another node's is, judged as `take` does; nothing is changed. */
  async examine(volumeId: string, { node, fence }: FencedNode): Promise<FoundVolume> {
    const from = this.#layout.ofNode(checkId(node));
    const own = await this.#volumes.find(checkId(volumeId));
    if (own !== null) return own;
    await this.#assertFence(volumeId, from, { node, fence });
    await this.#judge(volumeId, from, node);
    return (await this.#volumes.find(volumeId, from)) ?? this.#lost(volumeId);
  }

  /** Of this node, else of the one that has the volume. */
  async readSnapshotRecord(
    volumeId: string,
    instanceId: string,
    node: string | null,
  ): Promise<string | null> {
    const isOwn = node === null || (await isThere(this.#layout.volume(volumeId)));
    const path = (isOwn ? this.#layout : this.#layout.ofNode(node)).snapshotRecord(volumeId, instanceId);
    return (await readWhole(path, RECORD_BYTES_MAX))?.toString('utf8') ?? null;
  }

  /** @param text Null for none. @throws {AgentError} NOT_FOUND: the volume is not this node's. */
  async writeSnapshotRecord(volumeId: string, instanceId: string, text: string | null): Promise<void> {
    const path = this.#layout.snapshotRecord(volumeId, instanceId);
    if (text === null) return await removeDurably(path);
    if (!(await isThere(this.#layout.volume(volumeId))))
      throw new AgentError('NOT_FOUND', `Volume ${volumeId} is not this node's`);
    if (text !== (await this.readSnapshotRecord(volumeId, instanceId, null)))
      await writeDurably(path, text, RECORD_MODE);
  }

  /**
   * Gives all that is beside a volume a name in this node's folder. Headers that name what they stand on by the old
   * node's folder are written anew first, with the name alone, which holds in either.
   */
  async #link(volumeId: string, from: Layout, node: string, limit: CallLimit): Promise<void> {
    const { layers, names } = await this.#judge(volumeId, from, node);
    for (const layer of layers.filter(({ isAbsolute }) => isAbsolute))
      await this.#headers.makeRelative(volumeId, layer, await this.#volumes.labelIn(from, volumeId), limit);
    await dropAll(this.#layout, volumeId, names);
    await linkAll(names, from, this.#layout);
    // From now on they are judged: under these names nobody puts other files.
    await judgePassing({ volumeId, own: from, beside: this.#layout });
  }

  /** @throws {AgentError} NOT_FOUND, ILLEGAL_STATE, UNSUPPORTED, HOST_CONFLICT */
  async #judge(volumeId: string, from: Layout, node: string): Promise<PassingFiles> {
    // A link could lead to a file of this node's own.
    if (!(await isThere(from.volume(volumeId)))) throw await this.#notThere(volumeId, node);
    return await judgePassing({ volumeId, own: from, beside: from });
  }

  /** @throws {AgentError} STALE, NOT_FOUND, ILLEGAL_STATE */
  async #assertFence(volumeId: string, { root }: Layout, { node, fence }: FencedNode): Promise<void> {
    const record = await readRecord(root);
    if (record === null) throw await this.#notThere(volumeId, node);
    if (record.nodeId !== node)
      throw new AgentError('HOST_CONFLICT', `${root} is the folder of node ${record.nodeId}, not of ${node}`);
    if (fence > record.fence) return;
    const ended = record.fence === 0 ? 'none' : `up to ${record.fence}`;
    throw new AgentError('STALE', `Fence ${fence} of node ${node} has ended (${ended} have)`, {
      hint: 'The node has come back since. Fence it anew, and ask again.',
    });
  }

  async #notThere(volumeId: string, node: string): Promise<AgentError> {
    const owner = await this.ownerOf(volumeId);
    if (owner === null || owner === node)
      return new AgentError('NOT_FOUND', `Node ${node} has no volume ${volumeId} in this pool`, {
        hint: 'See that the pool of both nodes is one folder.',
      });
    return new AgentError('ILLEGAL_STATE', `Volume ${volumeId} is not node ${node}'s: node ${owner} has it`);
  }

  /** @throws {AgentError} ILLEGAL_STATE, NOT_FOUND: it has passed to another node meanwhile, or was removed. */
  async #pass(
    volumeId: string,
    { from, to, owner }: { from: Layout; to: Layout; owner: string },
  ): Promise<void> {
    const label = await ifThere(readSmall(from.volumeLabel(volumeId)));
    if (label !== null) await writeDurably(to.volumeLabel(volumeId), label, RECORD_MODE);
    try {
      await rename(from.volume(volumeId), to.volume(volumeId));
    } catch (error) {
      // The first answer of an NFS server may have been lost, and this one be of the call that was sent again.
      if (errno(error) !== 'ENOENT') throw error;
      if (!(await isThere(to.volume(volumeId)))) {
        await dropAll(to, volumeId);
        await removeDurably(to.volumeLabel(volumeId));
        throw await this.#notThere(volumeId, owner);
      }
    }
    for (const layout of [to, from]) await syncFolder(layout.folder('volumes'));
    await removeDurably(from.volumeLabel(volumeId));
  }

  #lost(volumeId: string): never {
    throw new AgentError('NOT_FOUND', `Volume ${volumeId} was taken from this node at the same moment`);
  }

  /** Whose pool it is. @throws {AgentError} INTERNAL: the folder of all would be taken for that of one. */
  get self(): string {
    if (this.#nodeId !== null) return this.#nodeId;
    throw new AgentError('INTERNAL', 'A shared pool was asked before it was said whose it is');
  }

  async #writeRecord(fence: number): Promise<void> {
    const record: NodeRecord = { version: 1, nodeId: this.self, fence };
    await writeDurably(join(this.#layout.root, RECORD_NAME), `${JSON.stringify(record)}\n`, RECORD_MODE);
  }
}

/** What is left of a volume in the folder of a node that has it no more. */
async function clear(volumeId: string, from: Layout, owner: Layout): Promise<void> {
  await dropLinked(volumeId, from, owner);
  await removeDurably(from.volumeLabel(volumeId));
}

function isId(name: string): boolean {
  return findFault(Id, name) === null;
}

/** Null where the node has none. @throws {AgentError} UNAVAILABLE: it can't be read as one. */
async function readRecord(root: string): Promise<NodeRecord | null> {
  const path = join(root, RECORD_NAME);
  const text = await ifThere(readSmall(path));
  if (text === null) return null;
  const record = readAs(NodeRecord, text);
  if (record !== null) return record;
  throw new AgentError('UNAVAILABLE', `${path} does not say whose folder it is`);
}

/** Without a folder there is no volume in it, either: a node may have made no folders yet. */
async function isThere(path: string): Promise<boolean> {
  return (await lstatIfThere(path))?.isFile() === true;
}
