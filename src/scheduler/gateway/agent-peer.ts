/** What the owner of the links does with what agents say. */
import type { IssuedCertificate, RenewRequest } from '../../model/enrolment.ts';
import type { BerthEvent } from '../../model/event.ts';
import type { Snapshot } from '../../model/link.ts';
import type { Inventory } from '../../model/node.ts';
import type { Heartbeat, Hello, HelloResult } from '../../model/wire.ts';
import type { AgentSession } from './agent-session.ts';
import type { HeldInventory } from './held-inventories.ts';

/** A hello with the inventory, however it was told. */
export type WholeHello = Hello & { inventory: Inventory };

/** Answer to a hello, and when the event `lastSeq` was, where that is known. */
export type Welcome = Omit<HelloResult, 'link'> & { lastAt: string | null; fences?: number };

export interface AgentPeer {
  /** The inventory that is stored of a node, with the node's own word for it; null where there is no such. */
  toldBefore(nodeId: string): HeldInventory | null;
  /** @throws {AgentError} when the agent is not taken; the link is closed then. */
  onHello(session: AgentSession, hello: WholeHello): Promise<Welcome>;
  /** The answer to the hello is on its way: requests may follow. */
  onIntroduced(session: AgentSession, nodeId: string): void;
  /** The agent reads again: what found no room may follow. */
  onRoom(session: AgentSession, nodeId: string): void;
  /** Resolves when it is stored. @throws {AgentError} INVALID_ARGUMENT: the link is closed then. */
  onHeartbeat(session: AgentSession, nodeId: string, heartbeat: Heartbeat): Promise<void>;
  onEvent(session: AgentSession, nodeId: string, event: BerthEvent): void;
  /** @throws {AgentError} INVALID_ARGUMENT: a part out of its order; the link is closed then. */
  onSnapshot(session: AgentSession, nodeId: string, snapshot: Snapshot): void;
  /** The next certificate of the node. @throws {AgentError} when there is none to be had here. */
  onRenew(session: AgentSession, nodeId: string, request: RenewRequest): IssuedCertificate;
  onClosed(session: AgentSession, nodeId: string): void;
}
