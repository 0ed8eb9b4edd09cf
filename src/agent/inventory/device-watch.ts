/**
 * DeviceWatch: the devices of the host, asked for when the hypervisor is connected and when it tells of a change.
 *
 * A NIC with its functions comes and goes in many events: they are waited for together. What was told last is kept while
 * the hypervisor can't be asked.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { Hypervisor } from '../../drivers/contracts/hypervisor.ts';
import { DEVICES_MAX, type HostDevice } from '../../model/topology.ts';
import type { Log } from '../log.ts';

/** Pause between an event and the question, ms. */
const GATHER_MS = 500;

export interface DeviceWatchParts {
  hypervisor: Hypervisor;
  clock: Clock;
  log: Log;
  /** As they were told last, by a daemon of before. */
  known: HostDevice[];
  onChange(before: HostDevice[], now: HostDevice[]): void;
}

export class DeviceWatch {
  readonly #parts: DeviceWatchParts;
  #devices: HostDevice[];
  /** What the last change was told of; others than were seen last where the telling has failed. */
  #told: HostDevice[];
  #isWaiting = false;
  #cancelTimer: () => void = () => undefined;
  #unsubscribe: Unsubscribe = () => undefined;
  #closed = false;

  constructor(parts: DeviceWatchParts) {
    this.#parts = parts;
    this.#devices = parts.known;
    this.#told = parts.known;
  }

  get devices(): HostDevice[] {
    return this.#devices;
  }

  start(): void {
    this.#unsubscribe = this.#parts.hypervisor.onDevices(() => this.#askSoon());
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
    this.#unsubscribe();
  }

  /** Asks now; to be called when the hypervisor is connected. */
  async ask(): Promise<void> {
    if (this.#closed) return;
    const { hypervisor, log } = this.#parts;
    try {
      this.#see((await hypervisor.devices()).slice(0, DEVICES_MAX));
    } catch (error) {
      log.warn({ error }, 'the devices of the host could not be told');
    }
  }

  /** Once for all events until then. */
  #askSoon(): void {
    if (this.#isWaiting || this.#closed) return;
    this.#isWaiting = true;
    this.#cancelTimer = this.#parts.clock.after(GATHER_MS, () => {
      this.#isWaiting = false;
      void this.ask();
    });
  }

  #see(now: HostDevice[]): void {
    if (this.#closed) return;
    this.#devices = now;
    if (!isDeepStrictEqual(this.#told, now)) this.#parts.onChange(this.#told, now);
    this.#told = now;
  }
}
