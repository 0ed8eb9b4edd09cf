/**
 * A light agent: the product's link on a node that is in memory alone. Some thousands of them fit in one process.
 */
import { randomUUID } from 'node:crypto';
import type { Credentials, DialTls } from '../../src/agent/link/credentials.ts';
import { Link } from '../../src/agent/link/link.ts';
import type { LinkOwnership } from '../../src/agent/link/ports.ts';
import type { Log } from '../../src/agent/log.ts';
import { type Clock, timestamp } from '../../src/drivers/contracts/clock.ts';
import type { FleetAgent, Progress } from '../agent.ts';
import type { LedgerEntry } from '../events.ts';
import { LightDispatcher } from './dispatcher.ts';
import { LightNode } from './node.ts';
import { LightStore } from './store.ts';

export interface LightAgentParts {
  nodeId: string;
  hostname: string;
  /** Bearer token; null where a certificate is shown. */
  token: string | null;
  tls: DialTls;
  clock: Clock;
  log: Log;
  /** 0 to 1. */
  random: () => number;
  /** Milliseconds that an operation takes. */
  workMs: () => number;
}

/** Nothing is started by itself here, so who is not heard of holds nothing up. */
class LightOwnership implements LinkOwnership {
  readonly #clock: Clock;
  #heardAtMs: number | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get lastContactAt(): string | null {
    return this.#heardAtMs === null ? null : new Date(this.#heardAtMs).toISOString();
  }

  answered(): void {
    this.heard();
  }

  heard(): void {
    this.#heardAtMs = this.#clock.now();
  }

  ended(): void {}
}

export class LightAgent implements FleetAgent {
  readonly nodeId: string;
  readonly node: LightNode;
  readonly store: LightStore;
  readonly #parts: LightAgentParts;
  readonly #ownership: LightOwnership;
  #link: Link | null = null;
  #linkedAt = 0;

  constructor(parts: LightAgentParts) {
    const { nodeId, hostname, clock, workMs } = parts;
    this.nodeId = nodeId;
    this.#parts = parts;
    this.#ownership = new LightOwnership(clock);
    this.store = new LightStore(clock, randomUUID());
    this.node = new LightNode({ nodeId, hostname, store: this.store, clock, newId: randomUUID, workMs });
  }

  async start(url: string): Promise<void> {
    this.#link = this.#newLink(url);
    this.#link.start();
  }

  linkedAt(): number | null {
    return this.#link?.health.state === 'ok' ? this.#linkedAt : null;
  }

  async restart(url: string): Promise<void> {
    await this.stop();
    await this.start(url);
  }

  async stir(): Promise<void> {
    this.node.stir();
  }

  instances(): string[] {
    return this.store.ids();
  }

  progress(): Progress {
    const { events } = this.store;
    return { lastSeq: events.lastSeq(), acknowledgedSeq: events.acknowledgedSeq };
  }

  ledger(): LedgerEntry[] {
    return this.store.events.ledger;
  }

  async stop(): Promise<void> {
    this.#link?.close();
    this.#link = null;
  }

  #newLink(url: string): Link {
    const { nodeId, hostname, clock, log, random } = this.#parts;
    const { store, node } = this;
    const dispatcher = new LightDispatcher({ nodeId, hostname, node, store, startedAt: timestamp(clock) });
    return new Link({
      store,
      inventories: node,
      dispatcher,
      ownership: this.#ownership,
      clock,
      log,
      nodeId,
      role: 'admin',
      credentials: this.#credentials(url),
      random,
      newId: randomUUID,
      onLinked: () => {
        this.#linkedAt = clock.now();
      },
    });
  }

  #credentials(url: string): Credentials {
    const { token, tls } = this.#parts;
    const dial = { url, token, tls, onAccepted: () => undefined, onFailed: () => undefined };
    return { dial: (alternate) => ({ ...dial, url: alternate ?? url }) };
  }
}
