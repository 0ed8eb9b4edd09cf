/**
 * What the link needs of a store, in memory: no database, some hundreds of bytes for each agent.
 *
 * Events are kept until they are acknowledged, as the outbox does, and a mark of each for ever, so that it can be told
 * what has become of them. It outlives the links of its agent as a database does.
 */
import { type Clock, timestamp } from '../../src/drivers/contracts/clock.ts';
import type { LinkEvents, LinkStore } from '../../src/agent/link/ports.ts';
import type { MetaKey } from '../../src/agent/store/meta.ts';
import type { BerthEvent, EventType } from '../../src/model/event.ts';
import type { Instance } from '../../src/model/instance.ts';
import { type LedgerEntry, ledgerEntryOf } from '../events.ts';

type Listener = (event: BerthEvent) => void;

class LightEvents implements LinkEvents {
  readonly outbox: LinkEvents['outbox'];
  readonly #clock: Clock;
  #listener: Listener | null = null;
  /** Not acknowledged yet, in order. */
  #kept: BerthEvent[] = [];
  /** Marks by number, from 1. */
  readonly #marks: number[] = [];
  #acknowledged = 0;
  #acknowledgedAt: string | null = null;

  constructor(clock: Clock, outboxId: string) {
    this.#clock = clock;
    const outbox = {
      id: outboxId,
      lostSeq: 0,
      renew: (id: string) => {
        outbox.id = id;
      },
    };
    this.outbox = outbox;
  }

  get acknowledgedSeq(): number {
    return this.#acknowledged;
  }

  get ledger(): LedgerEntry[] {
    return this.#marks.map((mark, at) => ({ seq: at + 1, mark }));
  }

  append(type: EventType, target: BerthEvent['target'], data: Record<string, unknown>): BerthEvent {
    const event = { seq: this.#marks.length + 1, type, at: timestamp(this.#clock), target, data };
    this.#marks.push(ledgerEntryOf(event).mark);
    this.#kept.push(event);
    return event;
  }

  tell(event: BerthEvent): void {
    this.#listener?.(event);
  }

  /** One at a time: a link has one session. */
  subscribe(listener: Listener): () => void {
    this.#listener = listener;
    return () => {
      if (this.#listener === listener) this.#listener = null;
    };
  }

  after(seq: number, limit: number): BerthEvent[] {
    const first = this.#kept[0]?.seq ?? 0;
    const from = Math.max(0, seq + 1 - first);
    return this.#kept.slice(from, from + limit);
  }

  at(seq: number): string | null {
    if (seq === this.#acknowledged) return this.#acknowledgedAt;
    return this.#kept.find((event) => event.seq === seq)?.at ?? null;
  }

  lastSeq(): number {
    return this.#marks.length;
  }

  acknowledge(seq: number): void {
    if (seq <= this.#acknowledged) return;
    this.#acknowledgedAt = this.at(seq);
    this.#acknowledged = Math.min(seq, this.lastSeq());
    this.#kept = this.#kept.filter((event) => event.seq > seq);
  }

  /** @throws {Error} Always: numbers that are given twice are a defect of what is measured. */
  skipTo(seq: number): void {
    throw new Error(`the scheduler has event ${seq}, and ${this.lastSeq()} were ever written`);
  }
}

export class LightStore implements LinkStore {
  readonly events: LightEvents;
  readonly byId = new Map<string, Instance>();
  #epoch = 0;
  #untold: BerthEvent[] | null = null;

  constructor(clock: Clock, outboxId: string) {
    this.events = new LightEvents(clock, outboxId);
  }

  get db(): LinkStore['db'] {
    return this;
  }

  get meta(): LinkStore['meta'] {
    return this;
  }

  get instances(): LinkStore['instances'] {
    return this;
  }

  /** Events of the change are told when it is done, as after a commit. */
  transaction<T>(body: () => T): T {
    const untold: BerthEvent[] = [];
    this.#untold = untold;
    try {
      return body();
    } finally {
      this.#untold = null;
      for (const event of untold) this.events.tell(event);
    }
  }

  append(type: EventType, target: BerthEvent['target'], data: Record<string, unknown>): void {
    if (this.#untold === null) throw new Error('outside of a transaction');
    this.#untold.push(this.events.append(type, target, data));
  }

  getNumber(key: MetaKey): number {
    return key === 'epoch' ? this.#epoch : 0;
  }

  set(key: MetaKey, value: string | number): void {
    if (key === 'epoch') this.#epoch = Number(value);
  }

  ids(): string[] {
    return [...this.byId.keys()];
  }

  count(): number {
    return this.byId.size;
  }
}
