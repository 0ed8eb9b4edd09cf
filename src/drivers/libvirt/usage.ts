/**
 * What the guests have used: one call of libvirt for all of them.
 *
 * Theory of operation:
 *
 *   stats of all that run ─▶ of some it is not known which process they are, and what their disks are called?
 *        │ no                                    │ yes
 *        ▼                                       ▼
 *   mapped to serials and taps          read that, and begin anew: where the domain's id is the same before and
 *                                       after, what was read between is of this very process
 *
 * NOWAIT leaves out what a busy guest can't say now. One that hangs without being busy still holds the call, as its QEMU
 * is asked for its disks: then what needs no QEMU (CPU time, taps) is asked for alone, and so it is until libvirt has
 * answered the call that it holds. @see qemuConnectGetAllDomainStats, qemu_driver.c
 */
import { constants, type Domain, type DomainStats } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { GuestUsage } from '../contracts/hypervisor-usage.ts';
import { mapBounded } from './bounded.ts';
import type { Definitions } from './definitions.ts';
import { unlessGone } from './errors.ts';
import { CallLimits } from './limits.ts';
import { disksOf, liveXml } from './live-disks.ts';
import type { CommandContext } from './own-domain.ts';
import { Processes } from './processes.ts';
import { cpuNsIn, disksIn, nicsIn, residentMibIn } from './usage-mapping.ts';

const STATS = constants.virDomainStatsTypes;
/** The kernel alone is asked for these. */
const UNMONITORED = STATS.VIR_DOMAIN_STATS_CPU_TOTAL | STATS.VIR_DOMAIN_STATS_INTERFACE;
const ALL = UNMONITORED | STATS.VIR_DOMAIN_STATS_BALLOON | STATS.VIR_DOMAIN_STATS_BLOCK;
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
  /** By the name of the target. */
  serials: ReadonlyMap<string, string>;
}

export class Usages {
  readonly #clock: Clock;
  readonly #definitions: Definitions;
  readonly #processes: Processes;
  readonly #known = new Map<string, Known>();
  /** Guests that are being read; one that is forgotten meanwhile is not remembered. */
  readonly #reading = new Map<string, symbol>();
  /** Calls that libvirt has not answered in time, and may still. */
  #held = 0;

  constructor(parts: { clock: Clock; definitions: Definitions; runFolder: string }) {
    this.#clock = parts.clock;
    this.#definitions = parts.definitions;
    this.#processes = new Processes(parts.runFolder);
  }

  async read(context: CommandContext): Promise<GuestUsage[]> {
    for (let attempt = 0; ; attempt++) {
      const records = await this.#records(context);
      const strange = records.filter(({ domain }) => this.#known.get(domain.uuid)?.domainId !== domain.id);
      if (strange.length === 0 || attempt === LEARN_LIMIT) return this.#mapped(records);
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

  #mapped(records: readonly DomainStats[]): GuestUsage[] {
    return records.flatMap(({ domain, stats }) => {
      const known = this.#known.get(domain.uuid);
      if (known === undefined || known.domainId !== domain.id || known.process === null) return [];
      return [
        {
          id: domain.uuid,
          process: known.process,
          cpuNs: cpuNsIn(stats),
          residentMib: residentMibIn(stats),
          disks: disksIn(stats, known.serials),
          nics: nicsIn(stats),
        },
      ];
    });
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
      process: await this.#processes.of(domain.name),
      serials: new Map(disks.map(({ target, serial }) => [target, serial])),
    };
  }

  async #records(context: CommandContext): Promise<DomainStats[]> {
    if (this.#held > 0) return unmonitored(context);
    const { connection, limits } = context;
    const answer = connection.getAllDomainStats(ALL, ACTIVE | NOWAIT, { role: 'long', timeoutMs: Infinity });
    let isHeld = true;
    const settled = answer.then(settle, settle);
    const part = { timeoutMs: limits.within(MONITOR_TIMEOUT_MS).timeoutMs };
    try {
      const options = limits.signal === undefined ? part : { ...part, signal: limits.signal };
      return await new CallLimits(this.#clock, options, MONITOR_TIMEOUT_MS).wait(answer, 'question');
    } catch (error) {
      if (!isHeld) throw error;
      this.#hold(settled);
      if (AgentError.from(error).code !== 'UNAVAILABLE') throw error;
      return unmonitored(context);
    }

    function settle(): void {
      isHeld = false;
    }
  }

  #hold(settled: Promise<void>): void {
    this.#held++;
    void settled.then(() => {
      this.#held--;
    });
  }
}

async function unmonitored({ connection, limits }: CommandContext): Promise<DomainStats[]> {
  return connection.getAllDomainStats(UNMONITORED, ACTIVE | NOWAIT, { role: 'short', ...limits.next() });
}
