/**
 * Which link leads to which node: one for each node, and the newest wins.
 */
import type { AgentSession } from './agent-session.ts';
import { CLOSE } from './close-codes.ts';

/** Finds the link to a node. */
export interface Links {
  /** Null where the node is not connected. */
  session(nodeId: string): AgentSession | null;
}

export class LinkTable implements Links {
  readonly #byNode = new Map<string, AgentSession>();

  session(nodeId: string): AgentSession | null {
    return this.#byNode.get(nodeId) ?? null;
  }

  /** Makes this session the node's link; the one before it is closed. */
  assign(nodeId: string, session: AgentSession): void {
    const before = this.#byNode.get(nodeId);
    this.#byNode.set(nodeId, session);
    if (before !== undefined && before !== session) before.close(CLOSE.replaced);
  }

  /** Forgets the link, unless another one has taken its place. */
  remove(nodeId: string, session: AgentSession): void {
    if (this.#byNode.get(nodeId) === session) this.#byNode.delete(nodeId);
  }
}
