/**
 * What the first process of a fleet orders its workers to do, and what they answer: over Node's IPC.
 */
import type { ErrorBody } from '../src/model/errors.ts';
import type { GatewayAddress } from './agent.ts';
import type { EventCount } from './events.ts';

export interface Launch {
  gateway: GatewayAddress;
  seed: number;
  /** Index of the worker's first agent in the fleet, and how many it has. */
  first: number;
  count: number;
  /** How many of them are full ones. */
  full: number;
  /** For the state of full ones. */
  folder: string;
}

/** What of the events has come through, and which instances are on which node. */
export interface Verdict {
  events: EventCount;
  instances: [instanceId: string, nodeId: string][];
}

export interface Orders {
  /** Makes agents and links them. */
  launch(params: Launch): void;
  /** Agents whose link has been welcomed since then, ms since the epoch. */
  countLinked(params: { sinceMs: number }): number;
  /** Agents that have events which are not acknowledged. */
  countBehind(params: object): number;
  /** Something happens on each node. */
  stir(params: object): void;
  /** All stop and start again. */
  restart(params: object): void;
  /** Moves so many agents to a slow line; none to bring them back. Answers how many were moved. */
  slowDown(params: { count: number }): number;
  /** Restarts the last agent at another address; null for its usual one. */
  redirectLast(params: { url: string | null }): void;
  /** Of its first agents, which no slow line comes before. */
  nodeIds(params: object): string[];
  verify(params: object): Verdict;
  stop(params: object): void;
}

export type OrderName = keyof Orders;
export type OrderParams<O extends OrderName> = Parameters<Orders[O]>[0];
export type OrderResult<O extends OrderName> = ReturnType<Orders[O]>;

export interface Order {
  id: number;
  name: OrderName;
  params: unknown;
}

export type OrderAnswer = { id: number; result: unknown } | { id: number; error: ErrorBody };
