/**
 * Nodes as the rest of the scheduler sees them: found by id or hostname, and shown to callers.
 */

import { Id, nullable, strict, Timestamp } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { Inventory, RESOURCE_CLASSES, type ResourceAmounts, type ResourceClass } from '../../model/node.ts';
import { type Static, Type } from '../../model/schema.ts';
import type { Amounts } from '../engines/amounts.ts';
import type { Links } from '../gateway/link-table.ts';
import { NODE_SERVICES, type NodeRow } from '../store/nodes.ts';
import type { Page } from '../store/page.ts';
import type { Store } from '../store/store.ts';
import type { Presence } from './presence.ts';
import { stateOf } from './service.ts';

const ShownAmounts = strict({ VCPU: Type.Integer(), MEMORY_MB: Type.Integer(), DISK_GB: Type.Integer() });

export const NodeView = strict({
  id: Id,
  hostname: Type.String(),
  version: Type.String({ description: 'of its agent' }),
  state: Type.Enum([...NODE_SERVICES, 'lost'], { description: 'lost: not heard of; else its service' }),
  since: Timestamp,
  reason: Type.String(),
  service: Type.Enum([...NODE_SERVICES], {
    description:
      'what operators want: ready takes instances, draining none, and on maintenance none is started either',
  }),
  connected: Type.Boolean({ description: 'there is a link to it now' }),
  heardAt: nullable(Timestamp),
  leaseUntil: nullable(
    Timestamp,
    'when it is lost if it is not heard of; null where it was not since the start',
  ),
  fence: nullable(
    strict({ number: Type.Integer(), at: Timestamp, by: Type.String(), reason: Type.String() }),
    'who said that it runs nothing any more; null where it may',
  ),
  lastSeq: Type.Integer({ description: 'number of the newest event that is stored of it' }),
  instances: Type.Integer({ description: 'instances that it has told of' }),
  claimed: ShownAmounts,
  room: ShownAmounts,
  inventory: Inventory,
  registeredAt: Timestamp,
});
export type NodeView = Static<typeof NodeView>;

const NOTHING: Amounts = {};

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

  /** Nodes by id. */
  showPage(page: Page): NodeView[] {
    return this.#parts.store.nodes.list(page).map(this.#shower());
  }

  #shower(): (node: NodeRow) => NodeView {
    const { store, presence, links } = this.#parts;
    const claims = store.claims.sums();
    return (node) => {
      const claimed = claims.get(node.id) ?? NOTHING;
      const { serviceNote, ...shown } = node;
      const told = node.state === 'lost' ? node : (serviceNote ?? node);
      return {
        ...shown,
        state: stateOf(node),
        since: told.since,
        reason: told.reason,
        connected: links.session(node.id) !== null,
        heardAt: presence.heardAt(node.id),
        leaseUntil: presence.leaseUntil(node.id),
        instances: store.instances.countOn(node.id),
        claimed: byClass((name) => claimed[name] ?? 0),
        room: byClass((name) => Math.max(0, node.inventory.resources[name].available - (claimed[name] ?? 0))),
      };
    };
  }
}

function byClass(amountOf: (name: ResourceClass) => number): ResourceAmounts {
  return Object.fromEntries(RESOURCE_CLASSES.map((name) => [name, amountOf(name)])) as ResourceAmounts;
}
