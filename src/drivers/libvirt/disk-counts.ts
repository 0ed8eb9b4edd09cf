/**
 * Counters of the disks of guests that run, asked of each QEMU by virDomainBlockStats.
 *
 * Not by virConnectGetAllDomainStats, though that is one call for all: it has QEMU list its block nodes as well, in which
 * one may end that makes an image or is just done with a pull (docs/adr/0042).
 *
 * A QEMU that hangs keeps the call that waits for it, and with it a place in libvirt and in our connection. So it is asked
 * no more until libvirt has answered, few are asked at once, and when that many hang nobody is asked.
 */
import type { Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { DiskCounters } from '../contracts/hypervisor-usage.ts';
import { mapBounded } from './bounded.ts';
import type { CallLimits } from './limits.ts';
import type { CommandContext } from './own-domain.ts';
import { diskCountersIn } from './usage-mapping.ts';

/** A QEMU answers within milliseconds; what has not been told of all after this long is left out, ms. */
const TIMEOUT_MS = 4_000;
/** Of the eight places that calls which wait have on our connection. */
const ASKED_AT_ONCE = 3;

/** Counters of the disks of a guest, by serial. */
type Counts = ReadonlyMap<string, DiskCounters>;

export interface AskedGuest {
  domain: Domain;
  /** Serials by the name of the target. */
  serials: ReadonlyMap<string, string>;
}

export class DiskCounts {
  /** Guests, by UUID, of which libvirt was asked and has not answered yet. */
  readonly #held = new Set<string>();

  /**
   * @returns By UUID; disks of which nothing was said are missing.
   * @throws {AgentError} CANCELLED
   */
  async of({ limits }: CommandContext, guests: readonly AskedGuest[]): Promise<Map<string, Counts>> {
    const part = limits.within(TIMEOUT_MS);
    const counts = new Map<string, Counts>();
    const asked = guests.filter(({ domain }) => !this.#held.has(domain.uuid));
    const places = Math.max(0, ASKED_AT_ONCE - this.#held.size);
    await mapBounded(asked, places, async (guest) => {
      const told = part.isOver ? null : await this.#ask(guest, part);
      if (told !== null) counts.set(guest.domain.uuid, told);
    });
    return counts;
  }

  /** @returns Null where nothing is said: it has gone, is busy, or hangs. */
  async #ask(guest: AskedGuest, limits: CallLimits): Promise<Counts | null> {
    const { uuid } = guest.domain;
    this.#held.add(uuid);
    const answer = countsOf(guest).finally(() => this.#held.delete(uuid));
    try {
      return await limits.wait(answer, 'question');
    } catch (error) {
      if (AgentError.from(error).code === 'CANCELLED') throw error;
      return null;
    }
  }
}

/** However long it takes: only libvirt's answer frees the place. */
async function countsOf({ domain, serials }: AskedGuest): Promise<Counts> {
  const counts = new Map<string, DiskCounters>();
  for (const [target, serial] of serials) {
    const counters = diskCountersIn(await domain.blockStats(target, { timeoutMs: Infinity }));
    if (counters !== null) counts.set(serial, counters);
  }
  return counts;
}
