/** The way of the calls of LibvirtHypervisor: a connection, a deadline, and what its failure is called. */
import type { CallOptions } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import { type CallNature, toAgentError } from './errors.ts';
import { CallLimits } from './limits.ts';
import type { CommandContext } from './own-domain.ts';
import type { Session } from './session.ts';

/** Deadlines of calls that say nothing else, milliseconds. */
export const TIMEOUT_MS = {
  /** libvirt answers these from memory. */
  observe: 5_000,
  /** Capabilities and the probe of KVM, on a cold host. */
  facts: 45_000,
  /** Hundreds of them, each asked for from memory. */
  devices: 15_000,
  /** As facts, when it is the first call of all. */
  define: 45_000,
  /** QEMU starts within a second, within tens of seconds on a host that swaps. */
  start: 60_000,
  request: 15_000,
  reset: 15_000,
  /** libvirt waits 10 s for QEMU to obey SIGTERM, then kills it, and waits 5 s more. @see qemu_process.c, qemuProcessStop */
  destroy: 30_000,
  undefine: 15_000,
  addresses: 5_000,
  plug: 30_000,
  /** A guest that is busy takes its time; one without a kernel never lets go. */
  unplug: 30_000,
  disk: 15_000,
  /** A guest's agent may take its time to flush; libvirt itself gives it no limit. */
  freeze: 60_000,
  /** The largest disks, to a slow disk. */
  copy: 6 * 3600_000,
  /** All guests at once, those that were not known yet included. */
  usage: 15_000,
  /** Two definitions of each domain are read. */
  uses: 15_000,
} as const;

export abstract class HypervisorCalls {
  readonly #clock: Clock;
  protected abstract readonly session: Session;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  protected ask<T>(
    what: string,
    options: CallOptions,
    defaultMs: number,
    body: (context: CommandContext) => Promise<T>,
  ): Promise<T> {
    return this.#call({ what, nature: 'question', defaultMs }, options, body);
  }

  protected command<T>(
    what: string,
    options: CallOptions,
    defaultMs: number,
    body: (context: CommandContext) => Promise<T>,
  ): Promise<T> {
    return this.#call({ what, nature: 'command', defaultMs }, options, body);
  }

  async #call<T>(
    { what, nature, defaultMs }: { what: string; nature: CallNature; defaultMs: number },
    options: CallOptions,
    body: (context: CommandContext) => Promise<T>,
  ): Promise<T> {
    try {
      const limits = new CallLimits(this.#clock, options, defaultMs);
      return await body({ connection: await this.session.connection(limits), limits });
    } catch (error) {
      throw toAgentError(error, what, nature);
    }
  }
}
