/**
 * Nodes as the rest of the scheduler sees them: found by id or hostname, shown to callers, judged for placement.
 */

import { Id, nullable, strict, Timestamp } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { Inventory, RESOURCE_CLASSES, type ResourceAmounts } from '../../model/node.ts';
import { type Static, Type } from '../../model/schema.ts';
import type { Links } from '../gateway/link-table.ts';
import { type PlacementNode, roomOf } from '../placement/place.ts';
import { NODE_STATES, type NodeRow } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import type { Presence } from './presence.ts';

const Amounts = strict({ VCPU: Type.Integer(), MEMORY_MB: Type.Integer(), DISK_GB: Type.Integer() });

export const NodeView = strict({
  id: Id,
  hostname: Type.String(),
  version: Type.String({ description: 'of its agent' }),
  state: Type.Enum([...NODE_STATES]),
  since: Timestamp,
  reason: Type.String(),
  connected: Type.Boolean({ description: 'there is a link to it now' }),
  heardAt: nullable(Timestamp),
  lastSeq: Type.Integer({ description: 'number of the newest event that is stored of it' }),
  instances: Type.Integer({ description: 'instances that it has told of' }),
  claimed: Amounts,
  room: Amounts,
  inventory: Inventory,
  registeredAt: Timestamp,
});
export type NodeView = Static<typeof NodeView>;

const NOTHING: ResourceAmounts = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };

export interface DirectoryParts {
  store: Store;
  presence: Presence;
  links: Links;
}

export class Directory {
  readonly #parts: DirectoryParts;

  constructor(parts: DirectoryParts) {
    this.#parts = parts;
  }

  /** @throws {AgentError} NOT_FOUND. INVALID_ARGUMENT: several nodes have this hostname. */
  find(idOrHostname: string): NodeRow {
    const { store } = this.#parts;
    const byId = store.nodes.get(idOrHostname);
    if (byId !== null) return byId;
    const [node, ...others] = store.nodes.withHostname(idOrHostname);
    if (node === undefined) throw new AgentError('NOT_FOUND', `No node ${idOrHostname} is known here`);
    if (others.length === 0) return node;
    throw new AgentError('INVALID_ARGUMENT', `${others.length + 1} nodes have the hostname ${idOrHostname}`, {
      hint: 'Name the node by its id.',
      details: { nodes: [node, ...others].map(({ id }) => id) },
    });
  }

  show(node: NodeRow): NodeView {
    return this.#shower()(node);
  }

  showAll(): NodeView[] {
    return this.#parts.store.nodes.all().map(this.#shower());
  }

  /** All nodes as placement sees them. */
  forPlacement(): PlacementNode[] {
    const { store, links } = this.#parts;
    const claims = store.claims.sums();
    return store.nodes.all().map((node) => ({
      id: node.id,
      hostname: node.hostname,
      unavailable: unavailability(node, links.session(node.id) !== null),
      available: availableOf(node.inventory),
      claimed: claims.get(node.id) ?? NOTHING,
    }));
  }

  #shower(): (node: NodeRow) => NodeView {
    const { store, presence, links } = this.#parts;
    const claims = store.claims.sums();
    const counts = store.instances.countByNode();
    return (node) => {
      const claimed = claims.get(node.id) ?? NOTHING;
      return {
        ...node,
        connected: links.session(node.id) !== null,
        heardAt: presence.heardAt(node.id),
        instances: counts.get(node.id) ?? 0,
        claimed,
        room: roomOf({ available: availableOf(node.inventory), claimed }),
      };
    };
  }
}

function unavailability(node: NodeRow, connected: boolean): string | null {
  if (node.state === 'lost') return `it is lost since ${node.since}: ${node.reason}`;
  return connected ? null : 'it is not connected';
}

function availableOf(inventory: Inventory): ResourceAmounts {
  const amounts = RESOURCE_CLASSES.map((name) => [name, inventory.resources[name].available]);
  return Object.fromEntries(amounts) as ResourceAmounts;
}
