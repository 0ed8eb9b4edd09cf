/**
 * The part of StoragePool that is about folders which several nodes use at once.
 *
 * A volume of a shared pool is one node's at every moment, and only that node opens, changes, counts or removes its files.
 * It passes to another node by one atomic step of the file system, so that of several that want it one gets it, and with
 * it the layers that snapshots have left, the firmware variables that they keep, and the record of them. The memory of a
 * snapshot does not pass: it is of a guest with that node's devices.
 */
import type { CallOptions } from './calls.ts';
import type { FoundVolume } from './storage-volumes.ts';

/** A node that runs nothing and writes to nothing any more, by an operator's word. */
export interface FencedNode {
  node: string;
  /** Which fence of that node it is: each has a higher number than the one before. */
  fence: number;
}

/** Where the record of an instance's snapshots lies: beside the volume that it boots from. */
export interface RecordPlace {
  volumeId: string;
  instanceId: string;
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
   *   has it. UNSUPPORTED: it is not whole without what else that node has: an image below it, or its label.
   *   HOST_CONFLICT: its files are not what a node would have written: a layer stands on what is no file of the volume, on
   *   itself, or on too many. Whatever is refused is as it was.
   */
  takeVolume(volumeId: string, from: FencedNode, options?: CallOptions): Promise<FoundVolume>;
  /** What `takeVolume` would make this node's, by the same judgement and with the same refusals; nothing is changed. */
  examineVolume(volumeId: string, from: FencedNode, options?: CallOptions): Promise<FoundVolume>;
  /**
   * What was written down of the snapshots of an instance; null for nothing. Where this node has the volume it is this
   * node's word.
   *
   * @param options.node The node that has the volume, where this one has it not. @default this one
   */
  readSnapshotRecord(place: RecordPlace, options?: CallOptions & { node?: string }): Promise<string | null>;
  /** Durable. It passes with its volume, and goes with it. @param text Null for nothing. @throws {AgentError} NOT_FOUND */
  writeSnapshotRecord(place: RecordPlace, text: string | null, options?: CallOptions): Promise<void>;
  /**
   * Gives a volume of this node to another one, from which it was taken; done where this node has it not.
   *
   * @throws {AgentError} HOST_CONFLICT: that node has one of this id.
   */
  giveVolume(volumeId: string, to: string, options?: CallOptions): Promise<void>;
}
