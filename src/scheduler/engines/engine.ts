/**
 * The engine: what holds inventories and claims of all nodes, and decides who gets the room.
 *
 *   report ─▶ inventory, traits, open or not ─▶ candidates ─▶ claim ─▶ release
 *
 * Promises of every engine, kept by one contract suite: a claim is all or nothing, and of two for the last room exactly
 * one succeeds, whichever processes ask; a claim that is repeated is the same claim; a consumer that claims on another
 * node gives up the first. An engine decides and sends nothing: commands stay on the links of the agents.
 */
import type { Refusal } from '../placement/refusals.ts';
import type { Amounts, Stock } from './amounts.ts';

export const ENGINE_NAMES = ['embedded', 'placement'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** What a node has, as it counts itself. */
export interface NodeReport {
  nodeId: string;
  hostname: string;
  stock: Readonly<Record<string, Stock>>;
  traits: readonly string[];
  /** Takes new instances. */
  isOpen: boolean;
  /** Claims that are part of what `stock` says is used. */
  counted: readonly Claim[];
  /** Claims that the node has, and may have in what it says is used or not yet. */
  accepted: readonly Claim[];
}

export interface EngineRequest {
  amounts: Amounts;
  required: readonly string[];
  forbidden: readonly string[];
  /** The one node that is asked about; null for all. */
  nodeId: string | null;
}

export interface Candidate {
  nodeId: string;
  /** What is left there before the claim, by resource class. */
  room: Amounts;
}

/** Room of one node for one consumer: an instance, by its id. */
export interface Claim {
  consumer: string;
  nodeId: string;
  amounts: Amounts;
}

export interface Engine {
  readonly name: EngineName;
  /** Takes what a node is and has. Idempotent, and cheap where nothing has changed. @throws {AgentError} UNAVAILABLE */
  report(node: NodeReport): Promise<void>;
  /** The open nodes with room and traits, in no order that means anything. @throws {AgentError} UNAVAILABLE */
  candidates(request: EngineRequest): Promise<Candidate[]>;
  /** Why each of these nodes is no candidate; one that is by now is left out. @throws {AgentError} UNAVAILABLE */
  whyNot(request: EngineRequest, nodeIds: readonly string[]): Promise<EngineRefusal[]>;
  /**
   * Claims all or nothing; what the consumer had before is given up with it.
   *
   * @throws {AgentError} CAPACITY_EXCEEDED: no room, nothing is changed. NOT_FOUND: the node was not reported. UNAVAILABLE
   */
  claim(claim: Claim): Promise<void>;
  /** Gives up what the consumer has; nothing where it has nothing. @throws {AgentError} UNAVAILABLE */
  release(consumer: string): Promise<void>;
  /**
   * Of an engine in the scheduler's own database: what `candidates`, `report` and `claim` do, as part of the caller's
   * transaction, which saves commits, and lets each of those that come at once see what the one before has claimed. A claim that is not as simple as that is left to `claim`, and answered false.
   */
  within?: {
    candidates(request: EngineRequest): Candidate[];
    report(node: NodeReport): void;
    claim(claim: Claim): boolean;
  };
  /** Consumers with claims on the node that were made by this scheduler. @throws {AgentError} UNAVAILABLE */
  consumersOf(nodeId: string): Promise<string[]>;
}

export type EngineRefusal = Pick<Refusal, 'code' | 'reason'> & { nodeId: string };
