/**
 * Fences: an operator's word that a lost node runs nothing any more, and writes to no storage.
 *
 *   heard ──lease lapses──▶ lost ──operator: powered off, or cut off──▶ fenced ──hello, or operator──▶ (no fence)
 *
 * A lapsed lease proves nothing: a node that is cut off goes on running its guests, which Berth never kills. So nothing but
 * this word lets an instance be restarted elsewhere; it is refused while the node is heard of, numbered, written down with
 * who and why, and gone as soon as the node says hello: its answer disowns what has moved, before anything is sent to it.
 */
import { AgentError } from '../../model/errors.ts';
import { type Clock, timestamp } from '../clock.ts';
import type { Links } from '../gateway/link-table.ts';
import type { Fence, NodeBrief } from '../store/nodes.ts';
import type { OperatorAction } from '../store/operator-log.ts';
import type { Store } from '../store/store.ts';

/** Who does it, and why. */
export interface Operator {
  by: string;
  reason: string;
}

export interface FencesParts {
  store: Store;
  links: Links;
  clock: Clock;
}

export class Fences {
  readonly #parts: FencesParts;

  constructor(parts: FencesParts) {
    this.#parts = parts;
  }

  /**
   * Takes the operator's word. Repeated, the first one stands.
   *
   * @throws {AgentError} ILLEGAL_STATE: the node is heard of, or its lease has not lapsed.
   */
  fence(nodeId: string, operator: Operator): void {
    const { store, links } = this.#parts;
    const node = store.nodes.brief(nodeId);
    if (node === null || node.fence !== null) return;
    if (node.state !== 'lost' || links.session(nodeId) !== null) {
      throw new AgentError('ILLEGAL_STATE', `Node ${node.hostname} is not lost: its lease has not lapsed`, {
        hint: 'Set it to draining or maintenance instead; a node that is heard of is not fenced.',
      });
    }
    this.#write('node.fence', nodeId, operator, (at) => store.nodes.setFence(nodeId, { at, ...operator }));
  }

  /** Takes it back: nothing is restarted elsewhere from now on. */
  unfence(nodeId: string, operator: Operator): void {
    const { store } = this.#parts;
    if (store.nodes.brief(nodeId)?.fence === null) return;
    this.#write('node.unfence', nodeId, operator, () => store.nodes.setFence(nodeId, null));
  }

  #write(action: OperatorAction, nodeId: string, operator: Operator, change: (at: string) => void): void {
    const { store, clock } = this.#parts;
    const at = timestamp(clock);
    store.db.transaction(() => {
      change(at);
      store.operatorLog.add({ at, action, nodeId, instanceId: null, ...operator });
    });
  }
}

/** The fence of a node. @throws {AgentError} ILLEGAL_STATE: what is on the node may run there. */
export function assertFenced(node: NodeBrief): Fence {
  if (node.state === 'lost' && node.fence !== null) return node.fence;
  const why =
    node.state === 'lost' ? 'it is lost, and may run its guests where nobody sees it' : 'it is not lost';
  throw new AgentError('ILLEGAL_STATE', `Node ${node.hostname} is not fenced: ${why}`, {
    hint: 'Power it off or cut it off from its storage, and say so: berth-scheduler node fence.',
  });
}
