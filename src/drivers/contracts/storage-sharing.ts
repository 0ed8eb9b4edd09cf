/**
 * The part of StoragePool that is about folders which several nodes use at once.
 *
 * A volume of a shared pool is one node's at every moment, and only that node opens, changes, counts or removes its files.
 * It passes to another node by one atomic step of the file system, so that of several that want it one gets it.
 */
import type { CallOptions } from './calls.ts';
import type { FoundVolume } from './storage-volumes.ts';

/** A node that runs nothing and writes to nothing any more, by an operator's word. */
export interface FencedNode {
  node: string;
  /** Which fence of that node it is: each has a higher number than the one before. */
  fence: number;
}

export interface SharedStorage {
  /** Whether several nodes use the pool's folder at once; the calls below are refused by pools of one node: UNSUPPORTED. */
  readonly isShared: boolean;
  /** Says whose pool it is, once, before anything else is asked. A pool of one node does not mind. */
  enterNode(nodeId: string): void;
  /**
   * Says that all fences of this node up to that one have ended: by none of them another node takes a volume of it any
   * more. The number never goes back.
   */
  endFences(fence: number, options?: CallOptions): Promise<void>;
  /** The node that has a volume, by its id; null where none has. This one comes first. */
  ownerOf(volumeId: string, options?: CallOptions): Promise<string | null>;
  /**
   * Makes a volume of a fenced node this one's, and tells what it is. One that is this node's already is left as it is.
   *
   * @throws {AgentError} STALE: that fence has ended. NOT_FOUND: the node has no such volume. ILLEGAL_STATE: a third node
   *   has it. UNSUPPORTED: it is not whole without what else that node has: an image below it, or layers of snapshots.
   */
  takeVolume(volumeId: string, from: FencedNode, options?: CallOptions): Promise<FoundVolume>;
  /**
   * Gives a volume of this node to another one, from which it was taken; done where this node has it not.
   *
   * @throws {AgentError} HOST_CONFLICT: that node has one of this id.
   */
  giveVolume(volumeId: string, to: string, options?: CallOptions): Promise<void>;
}
