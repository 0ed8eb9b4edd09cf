/**
 * The service of a node: whether operators want it to take instances.
 *
 *   ready ◀──▶ draining ◀──▶ maintenance        by operators, kept until they say otherwise
 *   heard ◀──▶ lost                             by heartbeats (presence.ts)
 *
 * draining: no new instance; what is there is started, stopped and deleted as before. maintenance: nothing is started
 * either. No state stops a guest. A node that is lost and comes back is what the operators made it.
 */
import { AgentError } from '../../model/errors.ts';
import { type Clock, timestamp } from '../clock.ts';
import type { NodeBrief, NodeService } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';

export interface ServiceParts {
  store: Store;
  clock: Clock;
  /** The node is to be reported to the engine. */
  onChanged(nodeId: string): void;
}

export class Service {
  readonly #parts: ServiceParts;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
  }

  /** Idempotent: the state that it is in keeps its since. */
  set(nodeId: string, change: { state: NodeService; by: string; reason: string }): void {
    const { store, clock, onChanged } = this.#parts;
    const { state, by, reason } = change;
    if (store.nodes.brief(nodeId)?.service === state) return;
    const at = timestamp(clock);
    store.db.transaction(() => {
      store.nodes.setService(nodeId, state, state === 'ready' ? null : { since: at, reason });
      const said = `${state}: ${reason}`;
      store.operatorLog.add({ at, action: 'node.state', nodeId, instanceId: null, by, reason: said });
    });
    onChanged(nodeId);
  }
}

/** What the node is to callers: lost where nobody hears it, else what the operators want. */
export function stateOf(node: Pick<NodeBrief, 'state' | 'service'>): 'lost' | NodeService {
  return node.state === 'lost' ? 'lost' : node.service;
}

/** Why a node takes no new instance; null where it does. */
export function unavailability(node: NodeBrief, isConnected: boolean): string | null {
  if (node.state === 'lost') return `it is lost since ${node.since}: ${node.reason}`;
  if (node.service !== 'ready') return serviceWords(node);
  return isConnected ? null : 'it is not connected';
}

/** @throws {AgentError} ILLEGAL_STATE: nothing is started on it. */
export function assertStartable(node: NodeBrief): void {
  if (node.service !== 'maintenance') return;
  throw new AgentError(
    'ILLEGAL_STATE',
    `Nothing is started on node ${node.hostname}: ${serviceWords(node)}`,
    {
      hint: 'Set its state to ready or draining first.',
    },
  );
}

function serviceWords({ service, serviceNote }: NodeBrief): string {
  const word = service === 'draining' ? 'draining' : 'in maintenance';
  return serviceNote === null
    ? `it is ${word}`
    : `it is ${word} since ${serviceNote.since}: ${serviceNote.reason}`;
}
