/**
 * Guest watch: asks the guest agent for the addresses of a guest once it answers.
 *
 * Asked when the agent connects, and for guests that run at start; again with growing pauses until there
 * is an IPv4 address, since an agent is often up before DHCP. What a guest says is shown, never acted on.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { GuestAddress, GuestEvent, Hypervisor } from '../../drivers/contracts/hypervisor.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';

/** Pauses between two questions to one guest, ms; then it is left alone until its agent connects again. */
const ASK_DELAYS_MS = [0, 200, 300, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000];
/** A guest agent answers in milliseconds, or hangs. */
const ASK_TIMEOUT_MS = 5_000;
/** Addresses kept of one guest; a hostile one may claim any number. */
const ADDRESSES_LIMIT = 64;

export class GuestWatch {
  readonly #store: Store;
  readonly #hypervisor: Hypervisor;
  readonly #clock: Clock;
  readonly #log: Log;
  /** The round of questions under way for each guest; a new one makes the old one stop. */
  readonly #rounds = new Map<string, symbol>();
  #unsubscribe: Unsubscribe = () => undefined;

  constructor(parts: { store: Store; hypervisor: Hypervisor; clock: Clock; log: Log }) {
    this.#store = parts.store;
    this.#hypervisor = parts.hypervisor;
    this.#clock = parts.clock;
    this.#log = parts.log;
  }

  start(): void {
    this.#unsubscribe = this.#hypervisor.subscribe((event) => this.#onEvent(event));
    this.#askRunning();
  }

  /** Asks the guests that run and have not told their addresses yet. */
  lookAgain(): void {
    this.#askRunning();
  }

  close(): void {
    this.#unsubscribe();
    this.#rounds.clear();
  }

  #askRunning(): void {
    for (const { id, power, guest } of this.#store.instances.list()) {
      // After a gap a power is unknown until the guests are looked at; one that is down just does not answer.
      if ((power.state === 'running' || power.state === 'unknown') && guest === null) this.#begin(id);
    }
  }

  #begin(id: string): void {
    const round = Symbol(id);
    this.#rounds.set(id, round);
    this.#askLater(id, round, 0);
  }

  #askLater(id: string, round: symbol, attempt: number): void {
    const delayMs = ASK_DELAYS_MS[attempt];
    if (delayMs === undefined) this.#rounds.delete(id);
    else this.#clock.after(delayMs, () => void this.#ask(id, round, attempt));
  }

  async #ask(id: string, round: symbol, attempt: number): Promise<void> {
    if (this.#rounds.get(id) !== round) return;
    let known = false;
    try {
      const addresses = await this.#hypervisor.guestAddresses(id, { timeoutMs: ASK_TIMEOUT_MS });
      if (this.#rounds.get(id) !== round) return;
      if (addresses.length > 0) this.#write(id, addresses.slice(0, ADDRESSES_LIMIT));
      known = addresses.some(({ address }) => address.includes('.'));
    } catch (error) {
      this.#log.debug({ instance: id, error }, 'the addresses of a guest are not known yet');
    }
    if (this.#rounds.get(id) !== round) return;
    if (known) this.#rounds.delete(id);
    else this.#askLater(id, round, attempt + 1);
  }

  #write(id: string, addresses: GuestAddress[]): void {
    const instance = this.#store.instances.find(id);
    if (instance === null) return;
    if (JSON.stringify(instance.guest?.addresses) === JSON.stringify(addresses)) return;
    this.#store.db.transaction(() => {
      this.#store.instances.setGuest(id, { seenAt: timestamp(this.#clock), addresses });
      this.#store.tellInstance('instance.changed', id);
    });
  }

  #onEvent(event: GuestEvent): void {
    if (event.type === 'gap') this.#askRunning();
    else if (event.type === 'agent' && event.connected) this.#onAgent(event.id);
    else if (event.type === 'power' && event.guest?.power !== 'running') this.#rounds.delete(event.id);
  }

  /** Guests that are not ours are not asked anything. */
  #onAgent(id: string): void {
    if (this.#store.instances.find(id) !== null) this.#begin(id);
  }
}
