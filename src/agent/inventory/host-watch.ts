/**
 * HostWatch: what can come and go on the host while it runs, looked at every few seconds.
 *
 * Nothing tells of a CPU that goes offline or of memory that is pulled out: the kernel's files are read again and again,
 * a fifth of a millisecond each time. What was seen last is kept while they can't be read.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { Host, HostResources } from '../../drivers/contracts/host.ts';
import { AgentError } from '../../model/errors.ts';
import type { Log } from '../log.ts';

/** Pause between two looks, ms: what has shrunk is claimed by nobody for long, and a look costs little. */
const LOOK_MS = 3_000;
/** Files that come from memory; a host that takes longer swaps, and is looked at again soon. */
const TIMEOUT_MS = 2_000;

export interface HostWatchParts {
  host: Host;
  clock: Clock;
  log: Log;
  /** Called after each look that has seen something else than the one before. */
  onChange(before: HostResources, now: HostResources): void;
  /** Called after each look. */
  onLook(): void;
}

export class HostWatch {
  readonly #parts: HostWatchParts;
  #resources: HostResources | null = null;
  /** What the last change was told of; another one than was seen last where the telling has failed. */
  #told: HostResources | null = null;
  #fault: string | null = null;
  #cancelTimer: () => void = () => undefined;
  #closed = false;

  constructor(parts: HostWatchParts) {
    this.#parts = parts;
  }

  /** As seen last; null before that. */
  get resources(): HostResources | null {
    return this.#resources;
  }

  /** Looks now, and again and again. Resolves after the first time, whatever came of it. */
  async start(): Promise<void> {
    await this.#look();
    this.#lookLater();
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
  }

  async #look(): Promise<void> {
    try {
      this.#see(await this.#parts.host.resources({ timeoutMs: TIMEOUT_MS }));
      this.#fault = null;
    } catch (error) {
      const { message } = AgentError.from(error).toBody();
      if (message !== this.#fault)
        this.#parts.log.warn({ reason: message }, 'what the host has could not be looked at');
      this.#fault = message;
    }
  }

  #see(now: HostResources): void {
    if (this.#closed) return;
    this.#resources = now;
    const before = this.#told ?? now;
    if (!isDeepStrictEqual(before, now)) this.#parts.onChange(before, now);
    this.#told = now;
    this.#parts.onLook();
  }

  #lookLater(): void {
    if (this.#closed) return;
    this.#cancelTimer = this.#parts.clock.after(
      LOOK_MS,
      () => void this.#look().then(() => this.#lookLater()),
    );
  }
}
