/**
 * What the guests have used: CPU time and taps of all in one call of libvirt, disks of each guest of ours by itself.
 *
 * Theory of operation:
 *
 *   what the kernel counts of all that run ─▶ of some it is not known which process they are, and what their disks are called?
 *        │ no                                    │ yes
 *        ▼                                       ▼
 *   their disks are asked for; then it is     read that, and begin anew
 *   looked whether the process is still
 *   the known one, and so all that was read
 *   between is of this very process
 *
 * NOWAIT leaves out what a busy guest can't say now. One that hangs without being busy may still hold the first call, where
 * its QEMU is asked how long it has polled: then it is made once more, as it is busy with that now.
 * @see qemuConnectGetAllDomainStats and qemuDomainGetStatsCpuHaltPollTime, qemu_driver.c; disk-counts.ts for why the disks
 *   are not asked for by it
 */
import { constants, type Domain, type DomainStats, type RoleCallOptions } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { GuestUsage } from '../contracts/hypervisor-usage.ts';
import { mapBounded } from './bounded.ts';
import type { Definitions } from './definitions.ts';
import { DiskCounts } from './disk-counts.ts';
import { unlessGone } from './errors.ts';
import { disksOf, liveXml } from './live-disks.ts';
import type { CommandContext } from './own-domain.ts';
import { Processes } from './processes.ts';
import { cpuNsIn, nicsIn } from './usage-mapping.ts';

const STATS = constants.virDomainStatsTypes;
const GENERAL = STATS.VIR_DOMAIN_STATS_CPU_TOTAL | STATS.VIR_DOMAIN_STATS_INTERFACE;
const FLAGS = constants.virConnectGetAllDomainStatsFlags;
const ACTIVE = FLAGS.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE;
const NOWAIT = FLAGS.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
/** A QEMU answers within milliseconds; one that takes this long hangs, ms. */
const MONITOR_TIMEOUT_MS = 4_000;
/** Times that guests are read which have just started or changed; what changes faster is told the next time. */
const LEARN_LIMIT = 3;
/** Guests read at once, as in hypervisor.ts. */
const READS_AT_ONCE = 64;
/** Guests that are remembered at once: far more than a host can have; beyond it all are read again. */
const REMEMBERED_LIMIT = 20_000;

/** What is known of a domain under one id. */
interface Known {
  domainId: number;
  /** Null for a guest that is not ours, or whose process can't be told. */
  process: string | null;
  /** Serials by the name of the target, as `vda`. */
  serials: ReadonlyMap<string, string>;
}

export class Usages {
  readonly #definitions: Definitions;
  readonly #processes: Processes;
  readonly #disks = new DiskCounts();
  readonly #known = new Map<string, Known>();
  /** Guests that are being read; one that is forgotten meanwhile is not remembered. */
  readonly #reading = new Map<string, symbol>();
  /** Libvirt was asked for all, and has not answered yet. */
  #isHeld = false;

  constructor(parts: { definitions: Definitions; runFolder: string }) {
    this.#definitions = parts.definitions;
    this.#processes = new Processes(parts.runFolder);
  }

  async read(context: CommandContext): Promise<GuestUsage[]> {
    for (let attempt = 0; ; attempt++) {
      const records = await this.#general(context);
      const strange = records.filter(({ domain }) => this.#known.get(domain.uuid)?.domainId !== domain.id);
      if (strange.length === 0 || attempt === LEARN_LIMIT) return this.#usages(context, records);
      await mapBounded(strange, READS_AT_ONCE, ({ domain }) => this.#learn(context, domain));
    }
  }

  /** Its devices, or its process, may be others now. */
  forget(uuid: string): void {
    this.#reading.delete(uuid);
    this.#known.delete(uuid);
  }

  forgetAll(): void {
    this.#reading.clear();
    this.#known.clear();
  }

  async #usages(context: CommandContext, records: readonly DomainStats[]): Promise<GuestUsage[]> {
    const ours = records.flatMap(({ domain, stats }) => {
      const known = this.#known.get(domain.uuid);
      if (known === undefined || known.domainId !== domain.id || known.process === null) return [];
      return [{ domain, stats, process: known.process, serials: known.serials }];
    });
    const disks = await this.#disks.of(context, ours);
    const usages = await mapBounded(ours, READS_AT_ONCE, async ({ domain, stats, process }) => {
      const now = await this.#processes.look(domain.name);
      if (now?.process !== process) return null;
      const { uuid: id } = domain;
      const counters = disks.get(id) ?? new Map();
      const [cpuNs, nics] = [cpuNsIn(stats), nicsIn(stats)];
      return { id, process, cpuNs, residentMib: now.residentMib, disks: counters, nics };
    });
    return usages.filter((usage) => usage !== null);
  }

  async #learn(context: CommandContext, domain: Domain): Promise<void> {
    const reading = Symbol(domain.uuid);
    this.#reading.set(domain.uuid, reading);
    const known = await unlessGone(this.#read(context, domain));
    if (this.#reading.get(domain.uuid) !== reading) return;
    this.#reading.delete(domain.uuid);
    if (known === null) return;
    if (this.#known.size >= REMEMBERED_LIMIT) this.#known.clear();
    this.#known.set(domain.uuid, known);
  }

  async #read(context: CommandContext, domain: Domain): Promise<Known> {
    const { metadata } = await this.#definitions.of(domain, context.limits.next());
    if (metadata === null) return { domainId: domain.id, process: null, serials: new Map() };
    const disks = disksOf(await liveXml(domain, context));
    return {
      domainId: domain.id,
      process: (await this.#processes.look(domain.name))?.process ?? null,
      serials: new Map(
        disks.flatMap(({ target, serial, path }) => (path === null ? [] : [[target, serial]])),
      ),
    };
  }

  async #general(context: CommandContext): Promise<DomainStats[]> {
    const { limits } = context;
    const withoutHeld = () => generalOf(context, { role: 'short', ...limits.next() });
    if (this.#isHeld) return withoutHeld();
    this.#isHeld = true;
    const answer = generalOf(context, { role: 'long', timeoutMs: Infinity }).finally(() => {
      this.#isHeld = false;
    });
    try {
      return await limits.within(MONITOR_TIMEOUT_MS).wait(answer, 'question');
    } catch (error) {
      if (!this.#isHeld || AgentError.from(error).code !== 'UNAVAILABLE') throw error;
      return withoutHeld();
    }
  }
}

/** Of all that run, ours or not. */
async function generalOf({ connection }: CommandContext, options: RoleCallOptions): Promise<DomainStats[]> {
  return connection.getAllDomainStats(GENERAL, ACTIVE | NOWAIT, options);
}
