/**
 * Inventories: what the node has, measured and cross-checked; what is taken comes from the store.
 *
 * The facts are gathered at start and refreshed on a timer; reads and admission never wait for them. While
 * the hypervisor can't be asked, what it said last is kept.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import type { HostFacts } from '../../drivers/contracts/host.ts';
import type { HypervisorFacts } from '../../drivers/contracts/hypervisor.ts';
import type { PoolCapacity } from '../../drivers/contracts/storage.ts';
import { assertFits, type Capacities, inventoryOf } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import {
  type Health,
  type Inventory,
  ROOM_LEVELS,
  type ResourceAmounts,
  type RoomLevel,
} from '../../model/node.ts';
import type { Config } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';
import { capacitiesOf, discrepanciesOf, traitsOf } from './capacities.ts';
import { roomLevel, usedPercent } from './pool-room.ts';

/** How often the pool is measured; room on disk is what changes behind our back. */
const POOL_REFRESH_MS = 30_000;
/** Pause before facts that are remembered are asked for anew: a restart has more urgent things to do, ms. */
const REFRESH_DELAY_MS = 2_000;
/** A pool that takes longer than this for one statfs hangs. */
const POOL_TIMEOUT_MS = 10_000;

export class Inventories {
  readonly #store: Store;
  readonly #drivers: Drivers;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #config: Config;
  readonly #nodeId: string;
  #host: HostFacts | null = null;
  #hypervisor: HypervisorFacts | null = null;
  #pool: PoolCapacity | null = null;
  #poolHealth: Health;
  /** As it was told last. */
  #room: RoomLevel;
  #generation = 0;
  #said = '';
  #cancelTimer: () => void = () => undefined;
  #unsubscribe: Unsubscribe = () => undefined;
  #closed = false;

  constructor(parts: {
    store: Store;
    drivers: Drivers;
    clock: Clock;
    log: Log;
    config: Config;
    nodeId: string;
  }) {
    this.#store = parts.store;
    this.#drivers = parts.drivers;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#config = parts.config;
    this.#nodeId = parts.nodeId;
    this.#room = roomOf(parts.store);
    this.#poolHealth = { state: 'unavailable', since: timestamp(parts.clock), reason: 'not measured yet' };
    this.#recall();
  }

  /**
   * Gathers what admission needs: the pool, and the host unless it is remembered; the newer facts of host and
   * hypervisor come when they come.
   */
  async start(): Promise<void> {
    if (this.#host === null) await this.#askHost();
    else this.#later(() => this.#askHost());
    await this.#measurePool();
    const { hypervisor } = this.#drivers;
    this.#unsubscribe = hypervisor.onHealth((health) => health.connected && this.#renewHypervisor());
    if (hypervisor.health().connected) this.#renewHypervisor();
    this.#measureLater();
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
    this.#unsubscribe();
  }

  get hostname(): string {
    return this.#host?.hostname ?? 'unknown';
  }

  get storageHealth(): Health {
    return this.#poolHealth;
  }

  /** @throws {AgentError} UNAVAILABLE before the host was measured. */
  get(): Inventory {
    const { host, capacities } = this.#measured();
    const used = this.#store.allocations.used();
    const facts = this.#hypervisor;
    const inventory = {
      nodeId: this.#nodeId,
      hostname: host.hostname,
      resources: {
        VCPU: inventoryOf(capacities.VCPU, used.VCPU),
        MEMORY_MB: inventoryOf(capacities.MEMORY_MB, used.MEMORY_MB),
        DISK_GB: inventoryOf(capacities.DISK_GB, used.DISK_GB),
      },
      traits: traitsOf(host, facts),
      acceleration: facts?.acceleration ?? 'absent',
      discrepancies: discrepanciesOf(host, facts),
      pool: this.#poolView(),
      host: {
        architecture: host.architecture,
        cpuModel: host.cpuModel,
        operatingSystem: host.operatingSystem,
        kernel: host.kernel,
        libvirtVersion: facts?.libvirtVersion ?? null,
        qemuVersion: facts?.qemuVersion ?? null,
      },
    };
    return { ...inventory, generation: this.#generationOf(JSON.stringify(inventory)) };
  }

  /** Whether the claim fits beside what is allocated; within the transaction that allocates it. */
  assertRoom(claim: Partial<ResourceAmounts>): void {
    this.#store.db.assertTransaction();
    if ((claim.DISK_GB ?? 0) > 0 && this.#room === 'critical') throw this.#tooFull();
    assertFits(this.#measured().capacities, this.#store.allocations.used(), claim);
  }

  #measured(): { host: HostFacts; capacities: Capacities } {
    if (this.#host === null || this.#pool === null) {
      throw new AgentError('UNAVAILABLE', `The node's capacity is not known: ${this.#poolHealth.reason}`, {
        hint: 'See `berth doctor`.',
      });
    }
    return { host: this.#host, capacities: capacitiesOf(this.#config.capacity, this.#host, this.#pool) };
  }

  #generationOf(said: string): number {
    if (said !== this.#said) {
      this.#said = said;
      this.#generation++;
    }
    return this.#generation;
  }

  /** At once when nothing is known of it. */
  #renewHypervisor(): void {
    if (this.#hypervisor === null) void this.#askHypervisor();
    else this.#later(() => this.#askHypervisor());
  }

  #later(ask: () => Promise<void>): void {
    this.#clock.after(REFRESH_DELAY_MS, () => void ask());
  }

  async #askHost(): Promise<void> {
    if (this.#closed) return;
    try {
      const facts = await this.#drivers.host.facts();
      if (this.#closed) return;
      this.#host = facts;
      this.#store.db.transaction(() => this.#store.meta.set('host', JSON.stringify(facts)));
    } catch (error) {
      if (this.#host === null) throw error;
      this.#log.warn({ error }, 'the facts of the host could not be taken');
    }
  }

  async #askHypervisor(): Promise<void> {
    if (this.#closed) return;
    try {
      const facts = await this.#drivers.hypervisor.facts();
      this.#hypervisor = facts;
      this.#store.db.transaction(() => {
        this.#store.meta.set('hypervisor', JSON.stringify(facts));
        this.#store.events.append('inventory.changed', null, {});
      });
      const { acceleration, accelerationReason: reason } = facts;
      this.#log.info({ acceleration, reason }, 'the hypervisor told its facts');
    } catch (error) {
      this.#log.warn({ error }, 'the facts of the hypervisor could not be taken');
    }
  }

  async #measurePool(): Promise<void> {
    try {
      await this.#drivers.pool.prepare({ timeoutMs: POOL_TIMEOUT_MS });
      this.#pool = await this.#drivers.pool.capacity({ timeoutMs: POOL_TIMEOUT_MS });
      this.#judgeRoom(this.#pool);
    } catch (error) {
      this.#setPoolHealth('unavailable', AgentError.from(error).toBody().message);
    }
  }

  #judgeRoom(pool: PoolCapacity): void {
    const { capacity } = this.#config;
    const percent = usedPercent(pool);
    const level = roomLevel(this.#room, percent, capacity);
    const reason = level === 'ok' ? 'measured' : `${percent} % of it are used, which is ${level}`;
    this.#setPoolHealth(level === 'ok' ? 'ok' : 'degraded', reason);
    if (level !== this.#room) this.#tellRoom(level, percent);
  }

  /** Once for each change, also over restarts. */
  #tellRoom(level: RoomLevel, percent: number): void {
    if (this.#closed) return;
    const object = { kind: 'storage', id: null, name: this.#drivers.pool.name };
    this.#store.db.transaction(() => {
      this.#store.meta.set('pool_room', level);
      this.#store.events.append('health.changed', null, { object, health: this.#poolHealth, room: level });
      this.#store.events.append('inventory.changed', null, {});
    });
    this.#room = level;
    if (level === 'ok') this.#log.info({ usedPercent: percent }, 'the pool has room again');
    else this.#log.warn({ usedPercent: percent, level }, 'the pool fills up');
  }

  #poolView(): Inventory['pool'] {
    const { fileSystem = null, shared = false } = this.#pool ?? {};
    return { name: this.#drivers.pool.name, fileSystem, shared, room: this.#room };
  }

  #tooFull(): AgentError {
    const { reason } = this.#poolHealth;
    return new AgentError(
      'CAPACITY_EXCEEDED',
      `No volume is made or grown while the pool is that full: ${reason}`,
      {
        hint: 'Make room in it: delete volumes, or images that nothing stands on. See capacity.poolCriticalPercent.',
      },
    );
  }

  #setPoolHealth(state: Health['state'], reason: string): void {
    const before = this.#poolHealth;
    if (state === 'unavailable' && before.reason !== reason)
      this.#log.warn({ reason }, 'the pool is unavailable');
    const since = before.state === state ? before.since : timestamp(this.#clock);
    const nextTryAt = new Date(this.#clock.now() + POOL_REFRESH_MS).toISOString();
    this.#poolHealth = { state, since, reason, ...(state === 'ok' ? {} : { nextTryAt }) };
  }

  #measureLater(): void {
    if (this.#closed) return;
    this.#cancelTimer = this.#clock.after(
      POOL_REFRESH_MS,
      () => void this.#measurePool().then(() => this.#measureLater()),
    );
  }

  #recall(): void {
    const { meta } = this.#store;
    this.#host = JSON.parse(meta.get('host') ?? 'null') as HostFacts | null;
    this.#hypervisor = JSON.parse(meta.get('hypervisor') ?? 'null') as HypervisorFacts | null;
  }
}

/** As it was told last; a word of another version counts as none. */
function roomOf({ meta }: Store): RoomLevel {
  const told = meta.get('pool_room');
  return ROOM_LEVELS.find((level) => level === told) ?? 'ok';
}
