/**
 * Polls: asking nodes for the whole of what they otherwise tell in pieces.
 *
 * Each connected node is polled on an interval, after missed events, and when an operator asks; at once when it connects, too,
 * unless its events go on where they were: those tell all that has changed. Polls over one link that fall together become one,
 * and of those that nobody waits for so many are under way: when a fleet comes back it is not asked all at once. A poll that
 * fails changes nothing.
 */
import type { Logger } from 'pino';
import type { Result } from '../../model/methods.ts';
import type { Inventory } from '../../model/node.ts';
import type { Clock } from '../clock.ts';
import type { Reporter } from '../engines/reporter.ts';
import type { AgentSession } from '../gateway/agent-session.ts';
import type { Links } from '../gateway/link-table.ts';
import type { Store } from '../store/store.ts';
import { ask } from './ask.ts';
import type { Mirror } from './mirror.ts';

/** Milliseconds between two polls of a node: events tell everything sooner; the poll mends what they missed. */
export const POLL_INTERVAL_MS = 60_000;
/** Parts of the interval in which nodes that come back together are polled one after the other. */
const SLICES = 60;
/** Polls at a time that nobody waits for: a slow node holds up few, and a fleet does not flood the scheduler. */
const POLLS_AT_ONCE = 32;
/** Heartbeats tell what a node has after a create; it is asked where none has by then, ms. */
export const REFRESH_DELAY_MS = 6_000;

export interface PollResult {
  inventory: Result<'inventory.get'>;
  instances: Result<'instance.list'>['instances'];
  status: Result<'node.status'>;
}

type Listing = Omit<PollResult, 'status'>;

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
  readonly #running = new Map<string, { link: AgentSession | null; poll: Promise<Listing> }>();
  /** Nodes that are polled when others have been. */
  readonly #waiting = new Set<string>();
  #inBackground = 0;
  readonly #refreshing = new Map<string, () => void>();
  readonly #stops = new Map<string, () => void>();
  #started = 0;

  constructor(parts: PollerParts) {
    this.#parts = parts;
  }

  /**
   * Polls the node on the interval, until `stop`.
   *
   * @param first `soon`: at once, too. `in-turn`: for the first time somewhen in the second interval from now: while a fleet comes
   * back there is more to do than to ask those who have told all.
   */
  start(nodeId: string, first: 'soon' | 'in-turn'): void {
    this.stop(nodeId);
    const { clock } = this.#parts;
    const poll = (): void => this.pollInBackground(nodeId);
    const repeat = (): void => {
      this.#stops.set(nodeId, clock.every(POLL_INTERVAL_MS, poll));
      poll();
    };
    const turnMs = ((SLICES + (this.#started++ % SLICES)) * POLL_INTERVAL_MS) / SLICES;
    if (first === 'soon') repeat();
    else this.#stops.set(nodeId, clock.after(turnMs, repeat));
  }

  stop(nodeId: string): void {
    this.#stops.get(nodeId)?.();
    this.#stops.delete(nodeId);
    this.#waiting.delete(nodeId);
  }

  close(): void {
    for (const nodeId of [...this.#stops.keys()]) this.stop(nodeId);
    for (const cancel of this.#refreshing.values()) cancel();
  }

  /** @throws {AgentError} as `ask` does. */
  async poll(nodeId: string): Promise<PollResult> {
    const [listing, status] = await Promise.all([
      this.#list(nodeId),
      ask(this.#parts.links, nodeId, 'node.status', {}),
    ]);
    return { ...listing, status };
  }

  pollInBackground(nodeId: string): void {
    this.#waiting.add(nodeId);
    this.#pollNext();
  }

  /** Asks for the inventory later, unless it was told by then: claims which the node counts are not to be counted twice. */
  refreshInventory(nodeId: string): void {
    if (this.#refreshing.has(nodeId)) return;
    const { clock, logger } = this.#parts;
    const refresh = (): void => {
      this.#refreshing.delete(nodeId);
      if (this.#accepted(nodeId).length === 0) return;
      // Where it fails the next poll or hello counts the claims.
      this.#askInventory(nodeId).catch((error) =>
        logger.warn({ err: error, nodeId }, 'inventory could not be refreshed'),
      );
    };
    this.#refreshing.set(nodeId, clock.after(REFRESH_DELAY_MS, refresh));
  }

  #pollNext(): void {
    for (const nodeId of this.#waiting) {
      if (this.#inBackground >= POLLS_AT_ONCE) return;
      this.#waiting.delete(nodeId);
      void this.#pollQuietly(nodeId);
    }
  }

  async #pollQuietly(nodeId: string): Promise<void> {
    this.#inBackground++;
    try {
      await this.#list(nodeId);
    } catch (error) {
      this.#parts.logger.warn({ err: error, nodeId }, 'poll failed');
    } finally {
      this.#inBackground--;
      this.#pollNext();
    }
  }

  /** Who asks while the node is being asked gets that answer; what has been answered is no answer to who asks later. */
  #list(nodeId: string): Promise<Listing> {
    const link = this.#parts.links.session(nodeId);
    const running = this.#running.get(nodeId);
    if (running !== undefined && running.link === link) return running.poll;
    const answered = (): void => {
      if (this.#running.get(nodeId)?.poll === poll) this.#running.delete(nodeId);
    };
    const poll = this.#poll(nodeId, answered).finally(answered);
    this.#running.set(nodeId, { link, poll });
    return poll;
  }

  async #poll(nodeId: string, answered: () => void): Promise<Listing> {
    const { store, mirror, links } = this.#parts;
    const knownBefore = mirror.expected(nodeId);
    const accepted = this.#accepted(nodeId);
    const [inventory, { instances }] = await Promise.all([
      ask(links, nodeId, 'inventory.get', {}),
      ask(links, nodeId, 'instance.list', {}),
    ]);
    answered();
    await store.round.write(() => {
      this.#takeInventory(nodeId, inventory, accepted);
      mirror.applyListing(nodeId, instances, knownBefore);
    });
    return { inventory, instances };
  }

  async #askInventory(nodeId: string): Promise<void> {
    const { store, links } = this.#parts;
    const accepted = this.#accepted(nodeId);
    const inventory = await ask(links, nodeId, 'inventory.get', {});
    await store.round.write(() => this.#takeInventory(nodeId, inventory, accepted));
  }

  /** Consumers whose claims are part of every inventory that is asked for from now on. */
  #accepted(nodeId: string): string[] {
    return this.#parts.store.claims.ofNode(nodeId, 'accepted').map(({ consumer }) => consumer);
  }

  #takeInventory(nodeId: string, inventory: Inventory, accepted: readonly string[]): void {
    const { store, reporter } = this.#parts;
    const isNews = store.nodes.setInventory(nodeId, inventory);
    store.claims.count(accepted);
    if (isNews || accepted.length > 0) reporter.note(nodeId);
  }
}
