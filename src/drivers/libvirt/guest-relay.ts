/**
 * libvirt's domain events → GuestEvents, in their order.
 *
 * Theory of operation: most events say all there is to say. Some say only that something changed (power-mapping.ts);
 * for these libvirt is asked, and the events after them wait, so that the order is kept. The queue is bounded: what
 * does not fit is dropped, and a gap is told in its place.
 *
 *   libvirt ──► queue ──► meaning known ──────────────► listeners
 *                    └──► 'ask' ──► state of the domain ──┘
 */
import { constants, type LibvirtEvent } from 'node-libvirt';
import type { Clock } from '../contracts/clock.ts';
import type { GuestEvent } from '../contracts/hypervisor.ts';
import { type DriverLog, Listeners } from './listeners.ts';
import { isPanic, meaningOfEvent, type ObservedPower } from './power-mapping.ts';

/** Events waiting for an answer of libvirt, which takes 0.1 ms; more wait only while it hangs. */
const QUEUE_LIMIT = 10_000;

/** Makes what is to be told, or null for nothing. */
type Step = () => GuestEvent | Promise<GuestEvent | null>;

/**
 * Resets of one guest that follow one another within this count as one, milliseconds: on its way through a reset the
 * firmware resets the machine again, and QEMU tells each. No guest boots and reboots in that time.
 */
const SAME_RESET_MS = 2_000;

export class GuestRelay {
  readonly listeners: Listeners<GuestEvent>;
  readonly #ask: (id: string) => Promise<ObservedPower | null>;
  readonly #clock: Clock;
  readonly #queue: Step[] = [];
  /** When each guest was reset last, for those that were within SAME_RESET_MS. */
  readonly #resetAtMs = new Map<string, number>();
  #isRunning = false;
  #isOverflown = false;

  /** @param ask The domain's power now, null when there is none; it never rejects, and says `unknown` on doubt. */
  constructor(clock: Clock, log: DriverLog, ask: (id: string) => Promise<ObservedPower | null>) {
    this.#clock = clock;
    this.listeners = new Listeners(log, 'a listener to guest events');
    this.#ask = ask;
  }

  lifecycle({ domain, event, detail }: LibvirtEvent<'domain', 'lifecycle'>): void {
    const meaning = meaningOfEvent(event, detail, domain.id !== -1);
    if (meaning === 'nothing') return;
    if (isPanic(event, detail)) this.tell({ type: 'panicked', id: domain.uuid });
    // One that was defined and is gone again by now has its own event on the way.
    const isDefined = event === constants.virDomainEventType.VIR_DOMAIN_EVENT_DEFINED;
    this.#push(() => {
      if (meaning === 'ask') return this.#asked(domain.uuid, isDefined ? 'skipped' : 'told');
      return { type: 'power', id: domain.uuid, guest: meaning === 'gone' ? null : meaning };
    });
  }

  /** The guest's machine was reset, by the host or by itself. */
  reset(id: string): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [guest, atMs] of this.#resetAtMs) {
      if (nowMs - atMs > SAME_RESET_MS) this.#resetAtMs.delete(guest);
    }
    const isSame = this.#resetAtMs.has(id);
    this.#resetAtMs.set(id, nowMs);
    if (!isSame) this.tell({ type: 'rebooted', id });
  }

  tell(event: GuestEvent): void {
    this.#push(() => event);
  }

  async #asked(id: string, absence: 'told' | 'skipped'): Promise<GuestEvent | null> {
    const guest = await this.#ask(id);
    return guest === null && absence === 'skipped' ? null : { type: 'power', id, guest };
  }

  #push(next: Step): void {
    if (this.#queue.length >= QUEUE_LIMIT) this.#isOverflown = true;
    else this.#queue.push(next);
    if (!this.#isRunning) void this.#run();
  }

  /** Runs synchronously as long as nothing has to be asked. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      const event = next();
      const told = event instanceof Promise ? await event : event;
      if (told !== null) this.listeners.tell(told);
    }
    this.#isRunning = false;
    this.#tellOverflow();
  }

  #tellOverflow(): void {
    if (!this.#isOverflown) return;
    this.#isOverflown = false;
    this.listeners.tell({ type: 'gap' });
  }
}
