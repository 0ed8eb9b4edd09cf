/**
 * What agents say, and what follows from it: hello, heartbeats, events.
 *
 *   hello ──▶ node stored, epoch and last event told ──▶ link assigned ──▶ unanswered commands sent again, poll
 */
import type { Logger } from 'pino';
import type { IssuedCertificate, RenewRequest } from '../../model/enrolment.ts';
import { AgentError } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import type { Inventory } from '../../model/node.ts';
import type { Snapshot } from '../../model/link.ts';
import type { Heartbeat } from '../../model/wire.ts';
import type { Enrolment } from '../ca/enrolment.ts';
import { type Clock, timestamp } from '../clock.ts';
import type { Reporter } from '../engines/reporter.ts';
import type { AgentPeer, Welcome, WholeHello } from '../gateway/agent-peer.ts';
import type { AgentSession } from '../gateway/agent-session.ts';
import type { LinkTable } from '../gateway/link-table.ts';
import type { NodeRow } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import { disownedOf } from './disowned.ts';
import { EventIntake } from './event-intake.ts';
import type { HeartbeatInterval } from './heartbeat-interval.ts';
import type { Mirror } from './mirror.ts';
import type { Poller } from './poller.ts';
import type { Presence } from './presence.ts';

/** Nodes that are remembered; one more is refused with LIMIT_REACHED. */
const NODES_LIMIT = 20_000;

export interface NodePeerParts {
  store: Store;
  mirror: Mirror;
  presence: Presence;
  poller: Poller;
  links: LinkTable;
  reporter: Pick<Reporter, 'note'>;
  clock: Clock;
  logger: Logger;
  epoch: number;
  interval: HeartbeatInterval;
  /** Makes certificates; null where the scheduler is no authority. */
  enrolment: Enrolment | null;
  /** The node can be sent requests now, or can again. */
  onConnected(nodeId: string): void;
}

export class NodePeer implements AgentPeer {
  readonly #parts: NodePeerParts;
  readonly #intakes = new WeakMap<AgentSession, EventIntake>();
  /** Those of a node whose events do not go on where they were. */
  readonly #unknown = new WeakSet<AgentSession>();

  constructor(parts: NodePeerParts) {
    this.#parts = parts;
  }

  async onHello(session: AgentSession, hello: WholeHello): Promise<Welcome> {
    const { store, epoch, interval, logger } = this.#parts;
    checkOwn(hello.nodeId, hello.inventory);
    const { lastSeq, goesOn } = await store.round.write(() => this.#register(hello));
    if (!goesOn) this.#unknown.add(session);
    this.#intakes.set(session, this.#newIntake(session, hello.nodeId));
    const { nodeId, lastContactAt } = hello;
    logger.info({ nodeId, hostname: hello.inventory.hostname, lastSeq, lastContactAt }, 'node connected');
    const disowned = disownedOf(store, nodeId, hello.instances ?? []);
    if (disowned.length > 0) logger.warn({ nodeId, disowned }, 'a node has what is not of it any more');
    const lastAt = store.events.at(nodeId, lastSeq);
    const fences = store.nodes.fences(nodeId);
    const told = { epoch, lastSeq, lastAt, fences, heartbeatSeconds: interval.seconds };
    return { ...told, ...(disowned.length > 0 ? { disowned } : {}) };
  }

  toldBefore(nodeId: string): { revision: string; text: string } | null {
    return this.#parts.store.nodes.told(nodeId);
  }

  onIntroduced(session: AgentSession, nodeId: string): void {
    const { links, presence, poller, onConnected } = this.#parts;
    links.assign(nodeId, session);
    presence.heard(nodeId);
    onConnected(nodeId);
    poller.start(nodeId, this.#unknown.has(session) ? 'soon' : 'in-turn');
  }

  onRoom(_session: AgentSession, nodeId: string): void {
    this.#parts.onConnected(nodeId);
  }

  async onHeartbeat(_session: AgentSession, nodeId: string, heartbeat: Heartbeat): Promise<void> {
    const { store, presence } = this.#parts;
    const { inventory, revision = null } = heartbeat;
    if (inventory !== undefined) {
      checkOwn(nodeId, inventory);
      await store.round.write(() => {
        this.#count(nodeId, store.nodes.setInventory(nodeId, inventory, { revision }));
      });
    }
    presence.heard(nodeId);
  }

  onEvent(session: AgentSession, _nodeId: string, event: BerthEvent): void {
    this.#intakes.get(session)?.add(event);
  }

  onSnapshot(session: AgentSession, _nodeId: string, snapshot: Snapshot): void {
    this.#intakes.get(session)?.addSnapshot(snapshot);
  }

  onRenew(_session: AgentSession, nodeId: string, { request }: RenewRequest): IssuedCertificate {
    const { enrolment } = this.#parts;
    if (enrolment !== null) return { certificate: enrolment.renew(nodeId, request) };
    throw new AgentError('UNSUPPORTED', 'Certificates of nodes are not made here');
  }

  onClosed(session: AgentSession, nodeId: string): void {
    const { links, poller } = this.#parts;
    this.#intakes.get(session)?.flush();
    if (links.session(nodeId) === null) poller.stop(nodeId);
  }

  #newIntake(session: AgentSession, nodeId: string): EventIntake {
    const { store, mirror, logger, poller } = this.#parts;
    return new EventIntake(
      { store, mirror, logger, onGap: (gapped) => poller.pollInBackground(gapped) },
      session,
      nodeId,
    );
  }

  /** Stores who has come; answers the number of the last event that is stored of it, and whether its events go on there. */
  #register(hello: WholeHello): { lastSeq: number; goesOn: boolean } {
    const { store } = this.#parts;
    const known = store.nodes.get(hello.nodeId);
    if (known === null && store.nodes.count() >= NODES_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `${NODES_LIMIT} nodes are known already`);
    }
    const outbox = hello.link?.outbox.id ?? null;
    const goesOn = known !== null && outbox !== null && store.outboxes.get(hello.nodeId) === outbox;
    const lastSeq = this.#resumeAfter(known, hello);
    this.#liftFence(known);
    const { revision = null } = hello;
    const isNews = store.nodes.put({ ...this.#stateOf(known), ...identityOf(hello), lastSeq }, { revision });
    store.outboxes.put(hello.nodeId, outbox);
    this.#count(hello.nodeId, isNews);
    return { lastSeq, goesOn };
  }

  /** An inventory has come: it is younger than any answer that came before it, and counts what was accepted. */
  #count(nodeId: string, isNews: boolean): void {
    const { store, reporter } = this.#parts;
    const accepted = store.claims.ofNode(nodeId, 'accepted').map(({ consumer }) => consumer);
    store.claims.count(accepted);
    if (isNews || accepted.length > 0) reporter.note(nodeId);
  }

  /** A node that says hello runs: what has moved is disowned in the answer, and nothing more of it moves. */
  #liftFence(known: NodeRow | null): void {
    if (known === null || known.fence === null) return;
    const { store, clock, logger } = this.#parts;
    logger.warn({ nodeId: known.id, fence: known.fence }, 'a fenced node has come back');
    store.nodes.setFence(known.id, null);
    store.operatorLog.add({
      at: timestamp(clock),
      action: 'node.unfence',
      nodeId: known.id,
      instanceId: null,
      by: 'berth-scheduler',
      reason: 'the node has said hello',
    });
  }

  /**
   * A node whose events have another numbering than those that are stored has lost its database, or was put back from
   * a copy. One that does not tell its numbering is known by having fewer events than are stored of it.
   */
  #resumeAfter(known: NodeRow | null, { nodeId, lastSeq, link }: WholeHello): number {
    const { store, logger } = this.#parts;
    const outbox = link?.outbox.id ?? null;
    const before = store.outboxes.get(nodeId);
    const isSame = outbox === null || before === null ? lastSeq >= (known?.lastSeq ?? 0) : outbox === before;
    if (isSame) return known?.lastSeq ?? 0;
    logger.warn({ nodeId, had: known?.lastSeq, has: lastSeq, outbox }, 'events count anew');
    store.events.forget(nodeId);
    return 0;
  }

  #stateOf(known: NodeRow | null): Pick<NodeRow, 'state' | 'since' | 'reason' | 'registeredAt'> {
    if (known?.state === 'ready') return known;
    const now = timestamp(this.#parts.clock);
    return {
      state: 'ready',
      since: now,
      reason: 'it has connected',
      registeredAt: known?.registeredAt ?? now,
    };
  }
}

function identityOf(hello: WholeHello): Pick<NodeRow, 'id' | 'hostname' | 'version' | 'inventory'> {
  const { nodeId, version, inventory } = hello;
  return { id: nodeId, hostname: inventory.hostname, version, inventory };
}

function checkOwn(nodeId: string, inventory: Inventory): void {
  if (inventory.nodeId === nodeId) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `The inventory is of node ${inventory.nodeId}, and the link of node ${nodeId}`,
  );
}
