/**
 * Hypervisor on libvirt (contracts/hypervisor.ts).
 *
 * Theory of operation:
 *
 *   LibvirtHypervisor ── deadline and words for each call, what is observed
 *     ├─ Session        the connection, its health, its events
 *     ├─ GuestCommands  what changes a guest
 *     ├─ Secrets        the passphrases of encrypted volumes
 *     ├─ DiskCopies, Checkpoints  what disks hold at one moment, and what changes after it
 *     ├─ GuestRelay     domain events → guest events, in order
 *     ├─ Definitions    what domains' definitions say, remembered until an event says otherwise
 *     ├─ DefinitionSweep  reads them again in turn, for what no event tells
 *     └─ HostPlatform   emulator, machine type, acceleration: for definitions and facts
 *
 * A domain is ours when it has our metadata element; nothing else is ever changed.
 */
import { constants, type Domain, type LibvirtEvent } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { VolumeQos } from '../../model/disk.ts';
import type { CallOptions, ProgressListener, Unsubscribe } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { KeyOfVolume, Keys } from '../contracts/keys.ts';
import type {
  DiskCopies as CopyRequest,
  DiskMerge,
  DiskOverlay,
  FlattenOptions,
  GuestAddress,
  GuestCheckpoint,
  GuestDefinition,
  GuestDisk,
  GuestEvent,
  GuestShare,
  GuestUse,
  Hypervisor,
  HypervisorFacts,
  HypervisorHealth,
  KeptDefinition,
  KeptFile,
  ObservedGuest,
} from '../contracts/hypervisor.ts';
import { guestAddressesOf } from './addresses.ts';
import { mapBounded } from './bounded.ts';
import { Checkpoints } from './checkpoints.ts';
import { DiskCopies } from './disk-copies.ts';
import { DiskLayers } from './disk-layers.ts';
import { DiskPulls } from './disk-pulls.ts';
import { DefinitionSweep } from './definition-sweep.ts';
import { Definitions } from './definitions.ts';
import { type CallNature, isLibvirtError, toAgentError } from './errors.ts';
import { GuestCommands } from './guest-commands.ts';
import { GuestRelay } from './guest-relay.ts';
import { HostPlatform, type HostPlatformOptions } from './host-platform.ts';
import { CallLimits } from './limits.ts';
import type { DriverLog } from './listeners.ts';
import { type CommandContext, findDomain, ownDomain, powerOf } from './own-domain.ts';
import { type ObservedPower, powerOfState, watchdogActionOf } from './power-mapping.ts';
import { Secrets } from './secrets.ts';
import { Session } from './session.ts';
import { READ_ONLY_PROGRAM_PATH } from './share-xml.ts';
import { keptPathsIn, listKeptIn, readUse } from './uses.ts';

export interface LibvirtHypervisorOptions extends HostPlatformOptions {
  /** As qemu:///system. */
  uri: string;
  /** The daemon's socket. @default the URI's usual one */
  socketPath?: string;
  /** Where libvirt's QEMU driver keeps its files. @default '/var/lib/libvirt/qemu' */
  keptFolder?: string;
  /** Within which all definitions are read again, milliseconds. @default SWEEP_ROUND_MS */
  sweepRoundMs?: number | undefined;
  /** What encrypted volumes are encrypted with. */
  keys: Keys;
  clock: Clock;
  log: DriverLog;
}

/** Deadlines of calls that say nothing else, milliseconds. */
const TIMEOUT_MS = {
  /** libvirt answers these from memory. */
  observe: 5_000,
  /** Capabilities and the probe of KVM, on a cold host. */
  facts: 45_000,
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
  /** Two definitions of each domain are read. */
  uses: 15_000,
} as const;
/** Of the system's libvirtd. @see qemu_conf.c, virQEMUDriverConfigNew */
const KEPT_FOLDER = '/var/lib/libvirt/qemu';
/** Definitions read at once: enough to keep a connection busy, few enough for its queue. */
const READS_AT_ONCE = 64;

export class LibvirtHypervisor implements Hypervisor {
  readonly #clock: Clock;
  readonly #session: Session;
  readonly #host: HostPlatform;
  readonly #commands: GuestCommands;
  readonly #checkpoints: Checkpoints;
  readonly #copies: DiskCopies;
  readonly #secrets: Secrets;
  readonly #layers: DiskLayers;
  readonly #pulls: DiskPulls;
  readonly #definitions = new Definitions();
  readonly #sweep: DefinitionSweep;
  readonly #relay: GuestRelay;
  readonly #keptFolder: string;

  constructor(options: LibvirtHypervisorOptions) {
    this.#clock = options.clock;
    this.#keptFolder = options.keptFolder ?? KEPT_FOLDER;
    this.#host = new HostPlatform(options);
    this.#commands = new GuestCommands(options.clock, options.readOnlyProgram ?? READ_ONLY_PROGRAM_PATH);
    this.#checkpoints = new Checkpoints(options.exec);
    this.#copies = new DiskCopies(options.clock, this.#checkpoints);
    this.#secrets = new Secrets(options.keys);
    this.#layers = new DiskLayers(options.clock);
    this.#pulls = new DiskPulls(options.clock);
    this.#relay = new GuestRelay(options.clock, options.log, (id) => this.#powerForRelay(id));
    this.#session = new Session(options, {
      onLifecycle: (event) => this.#sessionOnLifecycle(event),
      onReboot: ({ domain }) => this.#relay.reset(domain.uuid),
      onAgent: (event) => this.#sessionOnAgent(event),
      onWatchdog: ({ domain, action }) =>
        this.#relay.tell({ type: 'watchdog', id: domain.uuid, action: watchdogActionOf(action) }),
      onDefinition: ({ domain }) => this.#sessionOnDefinition(domain.uuid),
      onGap: () => this.#sessionOnGap(),
      onLoss: () => this.#sessionOnLoss(),
    });
    this.#sweep = new DefinitionSweep({
      clock: options.clock,
      roundMs: options.sweepRoundMs,
      known: () => (this.#session.health.connected ? this.#definitions.known() : []),
      renew: (id) => this.#definitions.renew(id, { timeoutMs: TIMEOUT_MS.observe }),
      changed: (id) => this.#relay.tell({ type: 'definition', id }),
    });
  }

  /** Begins to connect. To be called once. */
  connect(): void {
    this.#session.start();
    this.#sweep.start();
  }

  health(): HypervisorHealth {
    return this.#session.health;
  }

  onHealth(listener: (health: HypervisorHealth) => void): Unsubscribe {
    return this.#session.onHealth(listener);
  }

  subscribe(listener: (event: GuestEvent) => void): Unsubscribe {
    return this.#relay.listeners.add(listener);
  }

  facts(options: CallOptions = {}): Promise<HypervisorFacts> {
    return this.#ask('Cannot tell what this host has', options, TIMEOUT_MS.facts, ({ connection, limits }) =>
      limits.wait(this.#host.facts(connection), 'question'),
    );
  }

  observe(options: CallOptions = {}): Promise<ObservedGuest[]> {
    return this.#ask('Cannot observe the guests', options, TIMEOUT_MS.observe, async (context) => {
      const states = await allStates(context);
      const guests = await mapBounded(states, READS_AT_ONCE, ({ domain, observed }) =>
        this.#observed(context, domain, observed),
      );
      return guests.filter((guest) => guest !== null);
    });
  }

  observeGuest(id: string, options: CallOptions = {}): Promise<ObservedGuest | null> {
    return this.#ask(`Cannot observe guest ${id}`, options, TIMEOUT_MS.observe, async (context) => {
      const domain = await findDomain(context, id);
      if (domain === null) return null;
      const observed = await unlessGone(powerOf(domain, context.limits));
      return observed === null ? null : this.#observed(context, domain, observed);
    });
  }

  define(definition: GuestDefinition, options: CallOptions = {}): Promise<KeptDefinition> {
    const { id } = definition;
    return this.#command(`Cannot define guest ${id}`, options, TIMEOUT_MS.define, async (context) => {
      const platform = await context.limits.wait(this.#host.platform(context.connection), 'command');
      try {
        const domain = await this.#commands.define(context, definition, platform);
        return await this.#definitions.kept(domain, context.limits.next());
      } finally {
        this.#definitions.forget(id);
      }
    });
  }

  start(id: string, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot start guest ${id}`, options, TIMEOUT_MS.start, (context) =>
      this.#commands.start(context, id),
    );
  }

  requestShutdown(id: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot ask guest ${id} to shut down`;
    return this.#command(what, options, TIMEOUT_MS.request, (context) =>
      this.#commands.requestShutdown(context, id),
    );
  }

  requestReboot(id: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot ask guest ${id} to reboot`;
    return this.#command(what, options, TIMEOUT_MS.request, (context) =>
      this.#commands.requestReboot(context, id),
    );
  }

  reset(id: string, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot reset guest ${id}`, options, TIMEOUT_MS.reset, (context) =>
      this.#commands.reset(context, id),
    );
  }

  destroy(id: string, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot destroy guest ${id}`, options, TIMEOUT_MS.destroy, (context) =>
      this.#commands.destroy(context, id),
    );
  }

  undefine(id: string, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot undefine guest ${id}`, options, TIMEOUT_MS.undefine, async (context) => {
      try {
        await this.#commands.undefine(context, id);
      } finally {
        this.#definitions.forget(id);
      }
    });
  }

  giveKeys(volumes: readonly KeyOfVolume[], options: CallOptions = {}): Promise<void> {
    const what = 'Cannot hand the passphrases of volumes to libvirt';
    return this.#command(what, options, TIMEOUT_MS.request, (context) =>
      this.#secrets.give(context, volumes),
    );
  }

  forgetKey(volumeId: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot take the passphrase of volume ${volumeId} from libvirt`;
    return this.#command(what, options, TIMEOUT_MS.request, (context) =>
      this.#secrets.forget(context, volumeId),
    );
  }

  listKeys(options: CallOptions = {}): Promise<string[]> {
    return this.#ask('Cannot list the passphrases that libvirt has', options, TIMEOUT_MS.observe, (context) =>
      this.#secrets.list(context),
    );
  }

  plugDisk(id: string, disk: GuestDisk, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot plug a disk into guest ${id}`, options, TIMEOUT_MS.plug, (context) =>
      this.#commands.disks.plug(context, id, disk),
    );
  }

  unplugDisk(id: string, serial: string, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot take a disk from guest ${id}`, options, TIMEOUT_MS.unplug, (context) =>
      this.#commands.disks.unplug(context, id, serial),
    );
  }

  plugShare(id: string, share: GuestShare, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot plug a share into guest ${id}`, options, TIMEOUT_MS.plug, (context) =>
      this.#commands.shares.plug(context, id, share),
    );
  }

  unplugShare(id: string, tag: string, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot take a share from guest ${id}`, options, TIMEOUT_MS.unplug, (context) =>
      this.#commands.shares.unplug(context, id, tag),
    );
  }

  growDisk(id: string, serial: string, sizeBytes: number, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot grow a disk of guest ${id}`, options, TIMEOUT_MS.disk, (context) =>
      this.#commands.disks.grow(context, id, serial, sizeBytes),
    );
  }

  limitDisk(id: string, serial: string, qos: VolumeQos | null, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot limit a disk of guest ${id}`, options, TIMEOUT_MS.disk, (context) =>
      this.#commands.disks.limit(context, id, serial, qos),
    );
  }

  copyDisks(
    id: string,
    request: CopyRequest,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<void> {
    const { onProgress = () => undefined } = options;
    return this.#command(`Cannot copy the disks of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#copies.copy(context, id, request, onProgress),
    );
  }

  stopCopy(id: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot end the copying of the disks of guest ${id}`;
    return this.#command(what, options, TIMEOUT_MS.disk, (context) => this.#copies.stop(context, id));
  }

  switchDisks(
    id: string,
    overlays: readonly DiskOverlay[],
    options: CallOptions & { quiesce?: boolean; memoryPath?: string | null } = {},
  ): Promise<void> {
    const { quiesce = false, memoryPath = null } = options;
    const timeoutMs = memoryPath === null ? TIMEOUT_MS.freeze : TIMEOUT_MS.copy;
    return this.#command(`Cannot switch the disks of guest ${id}`, options, timeoutMs, (context) =>
      this.#layers.switch(context, id, overlays, { quiesce, memoryPath }),
    );
  }

  mergeDisk(
    id: string,
    merge: DiskMerge,
    options: CallOptions & { onProgress?: ProgressListener } = {},
  ): Promise<void> {
    const { onProgress = () => undefined } = options;
    return this.#command(`Cannot merge a disk of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#layers.merge(context, id, merge, onProgress),
    );
  }

  chainOf(id: string, serial: string, options: CallOptions = {}): Promise<string[] | null> {
    return this.#ask(`Cannot look at a disk of guest ${id}`, options, TIMEOUT_MS.observe, (context) =>
      this.#layers.chain(context, id, serial),
    );
  }

  resumeFrom(id: string, memoryPath: string, options: CallOptions = {}): Promise<void> {
    return this.#command(`Cannot take up the memory of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#layers.resume(context, id, memoryPath),
    );
  }

  flattenDisk(id: string, serial: string, options: CallOptions & FlattenOptions = {}): Promise<void> {
    return this.#command(`Cannot flatten a disk of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#pulls.pull(context, id, serial, options),
    );
  }

  stopFlatten(id: string, serial: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot end the flattening of a disk of guest ${id}`;
    return this.#command(what, options, TIMEOUT_MS.disk, (context) => this.#pulls.stop(context, id, serial));
  }

  checkpoints(id: string, options: CallOptions = {}): Promise<GuestCheckpoint[]> {
    const what = `Cannot list the checkpoints of guest ${id}`;
    return this.#ask(what, options, TIMEOUT_MS.disk, async (context) =>
      this.#checkpoints.list(context, await ownDomain(context, id)),
    );
  }

  forgetCheckpoints(id: string, names: readonly string[] | null, options: CallOptions = {}): Promise<void> {
    const what = `Cannot forget checkpoints of guest ${id}`;
    return this.#command(what, options, TIMEOUT_MS.disk, (context) =>
      this.#checkpoints.forget(context, id, names),
    );
  }

  guestAddresses(id: string, options: CallOptions = {}): Promise<GuestAddress[]> {
    const what = `Cannot ask the agent in guest ${id}`;
    return this.#ask(what, options, TIMEOUT_MS.addresses, async (context) =>
      guestAddressesOf(await this.#commands.interfaces(context, id)),
    );
  }

  uses(options: CallOptions = {}): Promise<GuestUse[]> {
    return this.#ask('Cannot tell what the guests use', options, TIMEOUT_MS.uses, async (context) => {
      const states = await allStates(context);
      const uses = await mapBounded(states, READS_AT_ONCE, ({ domain }) => readUse(domain, context));
      return uses.filter((use) => use !== null);
    });
  }

  listKept(options: CallOptions = {}): Promise<KeptFile[]> {
    return this.#ask('Cannot list what is kept for guests', options, TIMEOUT_MS.uses, ({ limits }) =>
      limits.wait(unlessUnread(listKeptIn(this.#keptFolder)), 'question'),
    );
  }

  keptPaths(guestName: string): Record<KeptFile['kind'], string> {
    return keptPathsIn(this.#keptFolder, guestName);
  }

  async close(): Promise<void> {
    this.#sweep.close();
    await this.#session.close();
    this.#relay.listeners.clear();
  }

  #ask<T>(
    what: string,
    options: CallOptions,
    defaultMs: number,
    body: (context: CommandContext) => Promise<T>,
  ): Promise<T> {
    return this.#call({ what, nature: 'question', defaultMs }, options, body);
  }

  #command<T>(
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
      return await body({ connection: await this.#session.connection(limits), limits });
    } catch (error) {
      throw toAgentError(error, what, nature);
    }
  }

  /** Null when the domain is gone meanwhile. */
  async #observed(
    { limits }: CommandContext,
    domain: Domain,
    observed: ObservedPower,
  ): Promise<ObservedGuest | null> {
    const facts = await unlessGone(this.#definitions.of(domain, limits.next()));
    if (facts === null) return null;
    const { id, name } = { id: domain.uuid, name: domain.name };
    return { id, name, ours: facts.metadata !== null, ...observed, ...facts };
  }

  async #powerForRelay(id: string): Promise<ObservedPower | null> {
    try {
      return await this.#ask(`Cannot observe guest ${id}`, {}, TIMEOUT_MS.observe, async (context) => {
        const domain = await findDomain(context, id);
        return domain === null ? null : unlessGone(powerOf(domain, context.limits));
      });
    } catch (error) {
      return { power: 'unknown', reason: AgentError.from(error).toBody().message };
    }
  }

  /** A start and a stop change what it runs with; they are told as power. */
  #sessionOnLifecycle(event: LibvirtEvent<'domain', 'lifecycle'>): void {
    const { VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_UNDEFINED } = constants.virDomainEventType;
    const { VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STOPPED } = constants.virDomainEventType;
    const isDefinition =
      event.event === VIR_DOMAIN_EVENT_DEFINED || event.event === VIR_DOMAIN_EVENT_UNDEFINED;
    const isProcess = event.event === VIR_DOMAIN_EVENT_STARTED || event.event === VIR_DOMAIN_EVENT_STOPPED;
    const { uuid } = event.domain;
    if (isDefinition || isProcess) this.#definitions.forget(uuid);
    this.#relay.lifecycle(event);
    if (isDefinition) this.#relay.tell({ type: 'definition', id: uuid });
  }

  #sessionOnDefinition(id: string): void {
    this.#definitions.forget(id);
    this.#relay.tell({ type: 'definition', id });
  }

  #sessionOnAgent({ domain, state }: LibvirtEvent<'domain', 'agentLifecycle'>): void {
    const states = constants.virConnectDomainEventAgentLifecycleState;
    const connected = state === states.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;
    this.#relay.tell({ type: 'agent', id: domain.uuid, connected });
  }

  #sessionOnGap(): void {
    this.#definitions.forgetAll();
    this.#relay.tell({ type: 'gap' });
  }

  #sessionOnLoss(): void {
    this.#definitions.forgetAll();
    this.#host.forget();
  }
}

/** The state of every domain, in one call that waits for no QEMU. */
async function allStates({ connection, limits }: CommandContext) {
  // The short lane: calls that wait for a stuck QEMU hold places on the long one.
  const options = { role: 'short', ...limits.next() } as const;
  const stats = constants.virDomainStatsTypes.VIR_DOMAIN_STATS_STATE;
  const records = await connection.getAllDomainStats(stats, 0, options);
  return records.map(({ domain, stats }) => ({
    domain,
    observed: powerOfState(Number(stats['state.state']), Number(stats['state.reason'])),
  }));
}

/** What the file system says against it means that the host could not be asked. */
async function unlessUnread<T>(promise: Promise<T>): Promise<T> {
  return promise.catch((cause: unknown) => {
    throw new AgentError('UNAVAILABLE', 'Cannot read the folders of libvirt', { cause });
  });
}

async function unlessGone<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN')) return null;
    throw error;
  }
}
