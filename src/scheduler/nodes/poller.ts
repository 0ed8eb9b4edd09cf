/**
 * Polls: asking nodes for the whole of what they otherwise tell in pieces.
 *
 * Each connected node is polled when it connects, on an interval, after missed events, and when an operator
 * asks; polls over one link that fall together become one. A poll that fails changes nothing.
 */
import type { Logger } from 'pino';
import type { Result } from '../../model/methods.ts';
import type { Clock } from '../clock.ts';
import type { Reporter } from '../engines/reporter.ts';
import type { AgentSession } from '../gateway/agent-session.ts';
import type { Links } from '../gateway/link-table.ts';
import type { Store } from '../store/store.ts';
import { ask } from './ask.ts';
import type { Mirror } from './mirror.ts';

/** Milliseconds between two polls of a node: events tell everything sooner; the poll mends what they missed. */
export const POLL_INTERVAL_MS = 60_000;

export interface PollResult {
  inventory: Result<'inventory.get'>;
  instances: Result<'instance.list'>['instances'];
  status: Result<'node.status'>;
}

export interface PollerParts {
  store: Store;
  mirror: Mirror;
  links: Links;
  reporter: Pick<Reporter, 'note'>;
  clock: Clock;
  logger: Logger;
}

export class Poller {
  readonly #parts: PollerParts;
  readonly #running = new Map<string, { link: AgentSession | null; poll: Promise<PollResult> }>();
  readonly #refreshing = new Map<string, 'running' | 'again'>();
  readonly #stops = new Map<string, () => void>();

  constructor(parts: PollerParts) {
    this.#parts = parts;
  }

  /** Polls the node now and then on the interval, until `stop`. */
  start(nodeId: string): void {
    this.stop(nodeId);
    this.#stops.set(
      nodeId,
      this.#parts.clock.every(POLL_INTERVAL_MS, () => this.pollInBackground(nodeId)),
    );
    this.pollInBackground(nodeId);
  }

  stop(nodeId: string): void {
    this.#stops.get(nodeId)?.();
    this.#stops.delete(nodeId);
  }

  close(): void {
    for (const nodeId of [...this.#stops.keys()]) this.stop(nodeId);
  }

  /** @throws {AgentError} as `ask` does. */
  poll(nodeId: string): Promise<PollResult> {
    const link = this.#parts.links.session(nodeId);
    const running = this.#running.get(nodeId);
    if (running !== undefined && running.link === link) return running.poll;
    const poll = this.#poll(nodeId).finally(() => {
      if (this.#running.get(nodeId)?.poll === poll) this.#running.delete(nodeId);
    });
    this.#running.set(nodeId, { link, poll });
    return poll;
  }

  pollInBackground(nodeId: string): void {
    this.poll(nodeId).catch((error) => this.#parts.logger.warn({ err: error, nodeId }, 'poll failed'));
  }

  /** Asks for the inventory soon, so that claims which the node counts by now are not counted twice. */
  refreshInventory(nodeId: string): void {
    const running = this.#refreshing.has(nodeId);
    this.#refreshing.set(nodeId, running ? 'again' : 'running');
    if (!running) void this.#refreshUntilCalm(nodeId);
  }

  async #refreshUntilCalm(nodeId: string): Promise<void> {
    do {
      this.#refreshing.set(nodeId, 'running');
      try {
        await this.#askInventory(nodeId);
      } catch (error) {
        this.#parts.logger.warn({ err: error, nodeId }, 'inventory could not be refreshed');
        break; // the next poll or hello counts the claims
      }
    } while (this.#refreshing.get(nodeId) === 'again');
    this.#refreshing.delete(nodeId);
  }

  async #poll(nodeId: string): Promise<PollResult> {
    const { store, mirror, links } = this.#parts;
    const knownBefore = mirror.expected(nodeId);
    const [inventory, { instances }, status] = await Promise.all([
      this.#askInventory(nodeId),
      ask(links, nodeId, 'instance.list', {}),
      ask(links, nodeId, 'node.status', {}),
    ]);
    store.db.transaction(() => mirror.applyListing(nodeId, instances, knownBefore));
    return { inventory, instances, status };
  }

  async #askInventory(nodeId: string): Promise<Result<'inventory.get'>> {
    const { store, links, reporter } = this.#parts;
    const accepted = store.claims.ofNode(nodeId, 'accepted').map(({ consumer }) => consumer);
    const inventory = await ask(links, nodeId, 'inventory.get', {});
    store.db.transaction(() => {
      const isNews = store.nodes.setInventory(nodeId, inventory);
      store.claims.count(accepted);
      if (isNews || accepted.length > 0) reporter.note(nodeId);
    });
    return inventory;
  }
}
