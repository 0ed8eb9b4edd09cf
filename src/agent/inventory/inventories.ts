/**
 * Inventories: what the node has, measured and cross-checked; what is taken comes from the store.
 *
 * Theory of operation
 *   facts, at start and after a change ─┐
 *   HostWatch, every few seconds ───────┼─▶ what was said last ─▶ get, assertRoom: from memory and the store
 *   DeviceWatch, by events ─────────────┤                    └─▶ another than before: inventory.changed, at once
 *   PoolWatch, one for each pool ───────┘                                            └─▶ Overcommit
 *
 * Reads and admission never wait for the host. While it, a pool or the hypervisor can't be asked, what it said last is
 * kept. DISK_GB is that of the default pool; each pool is claimed by itself.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import type { HostFacts, HostResources } from '../../drivers/contracts/host.ts';
import type { HypervisorFacts } from '../../drivers/contracts/hypervisor.ts';
import { assertFits, type Capacities, type Claim, inventoryOf } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import type { NodeLoad } from '../../model/load.ts';
import type { Health, Inventory, ResourceInventory } from '../../model/node.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { HostDevice } from '../../model/topology.ts';
import { poolSettings } from '../config/pools.ts';
import type { Config } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';
import { capacitiesOf, discrepanciesOf, traitsOf } from './capacities.ts';
import { DeviceWatch } from './device-watch.ts';
import { HostWatch } from './host-watch.ts';
import { LoadWatch } from './load-watch.ts';
import { Overcommit } from './overcommit.ts';
import { PoolWatch } from './pool-watch.ts';

/** Pause before facts that are remembered are asked for anew: a restart has more urgent things to do, ms. */
const REFRESH_DELAY_MS = 2_000;
/** How long the start waits for pools beside the default one to be measured, ms. */
const FIRST_MEASURE_MS = 1_000;

export interface InventoryParts {
  store: Store;
  drivers: Drivers;
  clock: Clock;
  log: Log;
  config: Config;
  nodeId: string;
}

export class Inventories {
  readonly #store: Store;
  readonly #drivers: Drivers;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #config: Config;
  readonly #nodeId: string;
  #host: HostFacts | null = null;
  #hypervisor: HypervisorFacts | null = null;
  /** By name, the default one first. */
  readonly #pools: ReadonlyMap<string, PoolWatch>;
  readonly #hostWatch: HostWatch;
  readonly #deviceWatch: DeviceWatch;
  readonly #overcommit: Overcommit;
  readonly #loadWatch: LoadWatch;
  #generation = 0;
  #said = '';
  #unsubscribe: Unsubscribe = () => undefined;
  #closed = false;

  constructor(parts: InventoryParts) {
    this.#store = parts.store;
    this.#drivers = parts.drivers;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#config = parts.config;
    this.#nodeId = parts.nodeId;
    this.#pools = watchesOf(parts, () => this.#onChange('pool'));
    this.#recall();
    const { clock, log, store, drivers } = parts;
    this.#overcommit = new Overcommit({ store, clock, log });
    this.#loadWatch = new LoadWatch({ host: drivers.host, clock, log });
    this.#hostWatch = new HostWatch({
      ...{ host: drivers.host, clock, log },
      onChange: (before, now) => this.#hostWatchOnChange(before, now),
      onLook: () => this.#overcommit.isAny && this.#judge(),
    });
    this.#deviceWatch = new DeviceWatch({
      ...{ hypervisor: drivers.hypervisor, clock, log },
      known: JSON.parse(store.meta.get('devices') ?? '[]') as HostDevice[],
      onChange: (before, now) => this.#deviceWatchOnChange(before, now),
    });
  }

  /**
   * Gathers what admission needs: the pool, what the host has now, and its facts unless they are remembered; newer facts
   * of host and hypervisor come when they come.
   */
  async start(): Promise<void> {
    if (this.#host === null) await this.#askHost();
    else this.#later(() => this.#askHost());
    await Promise.all([this.#hostWatch.start(), this.#measurePools()]);
    this.#judge();
    this.#deviceWatch.start();
    this.#loadWatch.start();
    const { hypervisor } = this.#drivers;
    this.#unsubscribe = hypervisor.onHealth((health) => health.connected && this.#renewHypervisor());
    if (hypervisor.health().connected) this.#renewHypervisor();
  }

  close(): void {
    this.#closed = true;
    for (const pool of this.#pools.values()) pool.close();
    this.#hostWatch.close();
    this.#deviceWatch.close();
    this.#loadWatch.close();
    this.#unsubscribe();
  }

  get hostname(): string {
    return this.#host?.hostname ?? 'unknown';
  }

  /** Of the default pool. */
  get storageHealth(): Health {
    return this.#home.health;
  }

  /** Every pool, the default one first. */
  get pools(): PoolWatch[] {
    return [...this.#pools.values()];
  }

  /** Looks at the host. @throws {AgentError} UNAVAILABLE */
  load(): Promise<NodeLoad> {
    return this.#loadWatch.read(this.pools);
  }

  /** Resource classes of which more is claimed than there is. */
  get overcommitted(): { name: string; health: Health }[] {
    return this.#overcommit.problems;
  }

  /** @throws {AgentError} NOT_FOUND */
  pool(name: string): PoolWatch {
    const found = this.#pools.get(name);
    if (found !== undefined) return found;
    throw new AgentError('NOT_FOUND', `No pool ${name} on this node`, {
      hint: 'List them with `berth pool list`; pools are named in the configuration, as [[pools]].',
    });
  }

  /** @throws {AgentError} UNAVAILABLE before the host was measured. */
  get(): Inventory {
    const { host, capacities } = this.#measured();
    const used = this.#store.allocations.used();
    const facts = this.#hypervisor;
    const { resources } = this.#hostWatch;
    const { devices } = this.#deviceWatch;
    const inventory = {
      nodeId: this.#nodeId,
      hostname: host.hostname,
      resources: {
        VCPU: inventoryOf(capacities.VCPU, used.VCPU),
        MEMORY_MB: inventoryOf(capacities.MEMORY_MB, used.MEMORY_MB),
        DISK_GB: inventoryOf(capacities.DISK_GB, used.DISK_GB),
      },
      load: this.#loadWatch.levels,
      offlineCpus: resources?.offlineCpus ?? '',
      numa: resources?.numaNodes ?? [],
      devices,
      traits: traitsOf(host, { hypervisor: facts, devices }),
      acceleration: facts?.acceleration ?? 'absent',
      discrepancies: discrepanciesOf({ host, resources, hypervisor: facts }),
      pool: placeOf(this.#home),
      pools: this.pools.map((pool) => this.#summaryOf(pool)),
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
  assertRoom({ disks = {}, ...claim }: Claim): void {
    this.#store.db.assertTransaction();
    for (const [name, gib] of Object.entries(disks)) if (gib > 0) this.pool(name).assertNotCritical();
    const { [DEFAULT_POOL]: homeGib = 0, ...others } = disks;
    const amounts = { ...claim, DISK_GB: homeGib };
    assertFits(this.#measured().capacities, this.#store.allocations.used(), amounts);
    for (const [name, gib] of Object.entries(others)) if (gib > 0) this.#assertRoomIn(name, gib);
  }

  /** Whether it would be admitted now; what is not known has none. */
  hasRoom(claim: Claim): boolean {
    try {
      this.assertRoom(claim);
      return true;
    } catch (error) {
      if (error instanceof AgentError) return false;
      throw error;
    }
  }

  /** What is left of a pool, and what it has; null before it was measured. */
  diskOf(pool: PoolWatch): ResourceInventory | null {
    if (pool.measured === null) return null;
    return inventoryOf(pool.disk, this.#store.allocations.usedOf(pool.settings.name));
  }

  #assertRoomIn(name: string, gib: number): void {
    const capacities = { ...this.#measured().capacities, DISK_GB: this.pool(name).disk };
    const used = { VCPU: 0, MEMORY_MB: 0, DISK_GB: this.#store.allocations.usedOf(name) };
    assertFits(capacities, used, { DISK_GB: gib }, `Pool ${name}`);
  }

  get #home(): PoolWatch {
    return this.pool(DEFAULT_POOL);
  }

  #summaryOf(pool: PoolWatch): Inventory['pools'][number] {
    return { ...placeOf(pool), disk: this.diskOf(pool), state: pool.health.state };
  }

  /** One that hangs is no reason to start later. */
  async #measurePools(): Promise<void> {
    const [home, ...others] = this.pools.map((pool) => pool.start());
    const late = Promise.withResolvers<void>();
    const cancelTimer = this.#clock.after(FIRST_MEASURE_MS, late.resolve);
    await home;
    if (others.length > 0) await Promise.race([Promise.all(others), late.promise]);
    cancelTimer();
  }

  #measured(): { host: HostFacts; capacities: Capacities } {
    if (this.#host === null || this.#home.measured === null) {
      throw new AgentError('UNAVAILABLE', `The node's capacity is not known: ${this.storageHealth.reason}`, {
        hint: 'See `berth doctor`.',
      });
    }
    return {
      host: this.#host,
      capacities: capacitiesOf(
        this.#config.capacity,
        { host: this.#host, resources: this.#hostWatch.resources },
        this.#home.disk,
      ),
    };
  }

  #generationOf(said: string): number {
    if (said !== this.#said) {
      this.#said = said;
      this.#generation++;
    }
    return this.#generation;
  }

  /** Tells that it has changed, and by what, and sees whether what is claimed is still there. */
  #onChange(of: 'cpus' | 'memory' | 'numa' | 'devices' | 'pool', write: () => void = () => undefined): void {
    if (this.#closed) return;
    this.#store.db.transaction(() => {
      write();
      this.#store.events.append('inventory.changed', null, { of });
    });
    this.#judge();
  }

  #hostWatchOnChange(before: HostResources, now: HostResources): void {
    const isCpus = before.cpus !== now.cpus;
    const of = isCpus ? 'cpus' : before.memoryMib === now.memoryMib ? 'numa' : 'memory';
    this.#onChange(of);
    // Huge pages come and go with those who use them: no fact of the host is another one.
    if (of === 'numa') return;
    this.#log.warn({ of, before, now }, 'the CPUs or the memory of the host have changed');
    this.#later(() => this.#askHost());
    if (this.#drivers.hypervisor.health().connected) this.#later(() => this.#askHypervisor());
  }

  #deviceWatchOnChange(before: HostDevice[], now: HostDevice[]): void {
    const gone = before.filter(({ address }) => now.every((device) => device.address !== address));
    if (gone.length > 0) this.#log.warn({ gone }, 'devices of the host are gone');
    this.#onChange('devices', () => this.#store.meta.set('devices', JSON.stringify(now)));
  }

  /** Before everything is measured there is nothing to compare with. */
  #judge(): void {
    if (this.#closed || this.#host === null || this.#home.measured === null) return;
    const { VCPU, MEMORY_MB } = this.#measured().capacities;
    const used = this.#store.allocations.used();
    const disks = this.pools.map(
      (pool) => [`DISK_GB of pool ${pool.settings.name}`, this.diskOf(pool)] as const,
    );
    this.#overcommit.judge(
      new Map<string, ResourceInventory | null>([
        ['VCPU', inventoryOf(VCPU, used.VCPU)],
        ['MEMORY_MB', inventoryOf(MEMORY_MB, used.MEMORY_MB)],
        ...disks,
      ]),
    );
  }

  /** At once when nothing is known of it. */
  #renewHypervisor(): void {
    void this.#deviceWatch.ask();
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

  #recall(): void {
    const { meta } = this.#store;
    this.#host = JSON.parse(meta.get('host') ?? 'null') as HostFacts | null;
    this.#hypervisor = JSON.parse(meta.get('hypervisor') ?? 'null') as HypervisorFacts | null;
  }
}

function watchesOf(
  { store, drivers, clock, log, config }: InventoryParts,
  onChange: () => void,
): Map<string, PoolWatch> {
  const settings = poolSettings(config);
  const watches = settings.map((each) => {
    const pool = each.name === DEFAULT_POOL ? drivers.pool : drivers.pools.get(each.name);
    if (pool === undefined) throw new Error(`there is no driver of pool ${each.name}`);
    return [each.name, new PoolWatch({ pool, settings: each, store, clock, log, onChange })] as const;
  });
  return new Map(watches);
}

function placeOf({ settings, measured, room }: PoolWatch): Inventory['pool'] {
  const { fileSystem = null, shared = false } = measured?.capacity ?? {};
  return { name: settings.name, fileSystem, shared, room };
}
