/**
 * Hypervisor on libvirt (contracts/hypervisor.ts).
 *
 * Theory of operation:
 *
 *   LibvirtHypervisor ── deadline and words for each call, what is observed
 *     ├─ Session        the connection, its health, its events
 *     ├─ GuestCommands  what changes a guest
 *     ├─ LibvirtDiskHypervisor  its disks: DiskCopies, Checkpoints, DiskLayers, DiskPulls; their passphrases: Secrets
 *     ├─ Usages         what guests have used
 *     ├─ GuestRelay     domain events → guest events, in order
 *     ├─ Definitions    what domains' definitions say, remembered until an event says otherwise
 *     ├─ DefinitionSweep  reads them again in turn, for what no event tells
 *     └─ HostPlatform   emulator, machine type, acceleration: for definitions and facts
 *
 * A domain is ours when it has our metadata element; nothing else is ever changed.
 */
import { constants, type Domain, type LibvirtEvent } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { HostDevice } from '../../model/topology.ts';
import type { CallOptions, Unsubscribe } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { Keys } from '../contracts/keys.ts';
import type {
  GuestAddress,
  GuestDefinition,
  GuestEvent,
  GuestShare,
  GuestUsage,
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
import { TIMEOUT_MS } from './calls.ts';
import { LibvirtDiskHypervisor } from './disk-hypervisor.ts';
import { DefinitionSweep } from './definition-sweep.ts';
import { Definitions } from './definitions.ts';
import { unlessGone } from './errors.ts';
import { GuestRelay } from './guest-relay.ts';
import { HostPlatform, type HostPlatformOptions } from './host-platform.ts';
import { type DriverLog, Listeners } from './listeners.ts';
import { readDevices } from './node-devices.ts';
import { type CommandContext, findDomain, powerOf } from './own-domain.ts';
import { copyNvram, keepNvram, restoreNvram, writeNvram } from './nvram.ts';
import { type ObservedPower, powerOfState, watchdogActionOf } from './power-mapping.ts';
import { Session } from './session.ts';
import { Usages } from './usage.ts';
import { keptPathsIn, listKeptIn, readUse } from './uses.ts';

export interface LibvirtHypervisorOptions extends HostPlatformOptions {
  /** As qemu:///system. */
  uri: string;
  /** The daemon's socket. @default the URI's usual one */
  socketPath?: string;
  /** Where libvirt's QEMU driver keeps its files. @default '/var/lib/libvirt/qemu' */
  keptFolder?: string;
  /** Where it keeps pid files. @default '/run/libvirt/qemu' */
  runFolder?: string;
  /** Within which all definitions are read again, milliseconds. @default SWEEP_ROUND_MS */
  sweepRoundMs?: number | undefined;
  /** What encrypted volumes are encrypted with. */
  keys: Keys;
  clock: Clock;
  log: DriverLog;
}

/** Of the system's libvirtd. @see qemu_conf.c, virQEMUDriverConfigNew */
const KEPT_FOLDER = '/var/lib/libvirt/qemu';
const RUN_FOLDER = '/run/libvirt/qemu';
/** Prefix of the names of PCI devices; others come and go with each guest. @see udevAddOneDevice, node_device_udev.c */
const PCI_DEVICE = 'pci_';
/** Definitions read at once: enough to keep a connection busy, few enough for its queue. */
const READS_AT_ONCE = 64;

export class LibvirtHypervisor extends LibvirtDiskHypervisor implements Hypervisor {
  protected readonly session: Session;
  readonly #host: HostPlatform;
  readonly #definitions = new Definitions();
  readonly #usages: Usages;
  readonly #sweep: DefinitionSweep;
  readonly #relay: GuestRelay;
  readonly #keptFolder: string;
  readonly #devices: Listeners<void>;

  constructor(options: LibvirtHypervisorOptions) {
    super(options);
    this.#keptFolder = options.keptFolder ?? KEPT_FOLDER;
    this.#host = new HostPlatform(options);
    const { runFolder = RUN_FOLDER } = options;
    this.#usages = new Usages({ definitions: this.#definitions, runFolder });
    this.#devices = new Listeners(options.log, 'a listener to devices');
    this.#relay = new GuestRelay(options.clock, options.log, (id) => this.#powerForRelay(id));
    this.session = new Session(options, {
      onLifecycle: (event) => this.#sessionOnLifecycle(event),
      onReboot: ({ domain }) => this.#relay.reset(domain.uuid),
      onAgent: (event) => this.#sessionOnAgent(event),
      onWatchdog: ({ domain, action }) =>
        this.#relay.tell({ type: 'watchdog', id: domain.uuid, action: watchdogActionOf(action) }),
      onDefinition: ({ domain }) => this.#sessionOnDefinition(domain.uuid),
      onDevice: ({ nodeDevice }) => nodeDevice.name.startsWith(PCI_DEVICE) && this.#devices.tell(),
      onGap: () => this.#sessionOnGap(),
      onLoss: () => this.#sessionOnLoss(),
    });
    this.#sweep = new DefinitionSweep({
      clock: options.clock,
      roundMs: options.sweepRoundMs,
      known: () => (this.session.health.connected ? this.#definitions.known() : []),
      renew: (id) => this.#definitions.renew(id, { timeoutMs: TIMEOUT_MS.observe }),
      changed: (id) => this.#relay.tell({ type: 'definition', id }),
    });
  }

  /** Begins to connect. To be called once. */
  connect(): void {
    this.session.start();
    this.#sweep.start();
  }

  health(): HypervisorHealth {
    return this.session.health;
  }

  onHealth(listener: (health: HypervisorHealth) => void): Unsubscribe {
    return this.session.onHealth(listener);
  }

  subscribe(listener: (event: GuestEvent) => void): Unsubscribe {
    return this.#relay.listeners.add(listener);
  }

  facts(options: CallOptions = {}): Promise<HypervisorFacts> {
    return this.ask('Cannot tell what this host has', options, TIMEOUT_MS.facts, ({ connection, limits }) =>
      limits.wait(this.#host.facts(connection), 'question'),
    );
  }

  devices(options: CallOptions = {}): Promise<HostDevice[]> {
    return this.ask('Cannot tell what devices this host has', options, TIMEOUT_MS.devices, (context) =>
      readDevices(context.connection, context.limits),
    );
  }

  onDevices(listener: () => void): Unsubscribe {
    return this.#devices.add(listener);
  }

  observe(options: CallOptions = {}): Promise<ObservedGuest[]> {
    return this.ask('Cannot observe the guests', options, TIMEOUT_MS.observe, async (context) => {
      const states = await allStates(context);
      const guests = await mapBounded(states, READS_AT_ONCE, ({ domain, observed }) =>
        this.#observed(context, domain, observed),
      );
      return guests.filter((guest) => guest !== null);
    });
  }

  observeGuest(id: string, options: CallOptions = {}): Promise<ObservedGuest | null> {
    return this.ask(`Cannot observe guest ${id}`, options, TIMEOUT_MS.observe, async (context) => {
      const domain = await findDomain(context, id);
      if (domain === null) return null;
      const observed = await unlessGone(powerOf(domain, context.limits));
      return observed === null ? null : this.#observed(context, domain, observed);
    });
  }

  define(definition: GuestDefinition, options: CallOptions = {}): Promise<KeptDefinition> {
    const { id } = definition;
    return this.command(`Cannot define guest ${id}`, options, TIMEOUT_MS.define, async (context) => {
      const platform = await context.limits.wait(this.#host.platform(context.connection), 'command');
      try {
        const domain = await this.commands.define(context, definition, platform);
        return await this.#definitions.kept(domain, context.limits.next());
      } finally {
        this.#definitions.forget(id);
      }
    });
  }

  start(id: string, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot start guest ${id}`, options, TIMEOUT_MS.start, (context) =>
      this.commands.start(context, id),
    );
  }

  requestShutdown(id: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot ask guest ${id} to shut down`;
    return this.command(what, options, TIMEOUT_MS.request, (context) =>
      this.commands.requestShutdown(context, id),
    );
  }

  requestReboot(id: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot ask guest ${id} to reboot`;
    return this.command(what, options, TIMEOUT_MS.request, (context) =>
      this.commands.requestReboot(context, id),
    );
  }

  reset(id: string, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot reset guest ${id}`, options, TIMEOUT_MS.reset, (context) =>
      this.commands.reset(context, id),
    );
  }

  destroy(id: string, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot destroy guest ${id}`, options, TIMEOUT_MS.destroy, (context) =>
      this.commands.destroy(context, id),
    );
  }

  undefine(id: string, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot undefine guest ${id}`, options, TIMEOUT_MS.undefine, async (context) => {
      try {
        await this.commands.undefine(context, id);
      } finally {
        this.#definitions.forget(id);
      }
    });
  }

  plugShare(id: string, share: GuestShare, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot plug a share into guest ${id}`, options, TIMEOUT_MS.plug, (context) =>
      this.commands.shares.plug(context, id, share),
    );
  }

  unplugShare(id: string, tag: string, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot take a share from guest ${id}`, options, TIMEOUT_MS.unplug, (context) =>
      this.commands.shares.unplug(context, id, tag),
    );
  }

  guestAddresses(id: string, options: CallOptions = {}): Promise<GuestAddress[]> {
    const what = `Cannot ask the agent in guest ${id}`;
    return this.ask(what, options, TIMEOUT_MS.addresses, async (context) =>
      guestAddressesOf(await this.commands.interfaces(context, id)),
    );
  }

  usage(options: CallOptions = {}): Promise<GuestUsage[]> {
    return this.ask('Cannot tell what the guests have used', options, TIMEOUT_MS.usage, (context) =>
      this.#usages.read(context),
    );
  }

  uses(options: CallOptions = {}): Promise<GuestUse[]> {
    return this.ask('Cannot tell what the guests use', options, TIMEOUT_MS.uses, async (context) => {
      const states = await allStates(context);
      const uses = await mapBounded(states, READS_AT_ONCE, ({ domain }) => readUse(domain, context));
      return uses.filter((use) => use !== null);
    });
  }

  keepNvram(id: string, path: string, options: CallOptions = {}): Promise<boolean> {
    const what = `Cannot keep the firmware variables of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.disk, (context) =>
      keepNvram(context, this.#keptFolder, { id, path }),
    );
  }

  copyNvram(id: string, path: string, options: CallOptions = {}): Promise<boolean> {
    const what = `Cannot copy the firmware variables of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.disk, (context) =>
      copyNvram(context, this.#keptFolder, { id, path }),
    );
  }

  restoreNvram(id: string, path: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot put back the firmware variables of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.disk, (context) =>
      restoreNvram(context, this.#keptFolder, { id, path }),
    );
  }

  writeNvram(id: string, bytes: Uint8Array, options: CallOptions = {}): Promise<void> {
    const what = `Cannot give guest ${id} its firmware variables`;
    return this.command(what, options, TIMEOUT_MS.disk, (context) =>
      writeNvram(context, this.#keptFolder, { id, bytes }),
    );
  }

  listKept(options: CallOptions = {}): Promise<KeptFile[]> {
    return this.ask('Cannot list what is kept for guests', options, TIMEOUT_MS.uses, ({ limits }) =>
      limits.wait(unlessUnread(listKeptIn(this.#keptFolder)), 'question'),
    );
  }

  keptPaths(guestName: string): Record<KeptFile['kind'], string> {
    return keptPathsIn(this.#keptFolder, guestName);
  }

  async close(): Promise<void> {
    this.#sweep.close();
    await this.session.close();
    this.#relay.listeners.clear();
    this.#devices.clear();
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
      return await this.ask(`Cannot observe guest ${id}`, {}, TIMEOUT_MS.observe, async (context) => {
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
    if (isDefinition || isProcess) this.#forget(uuid);
    this.#relay.lifecycle(event);
    if (isDefinition) this.#relay.tell({ type: 'definition', id: uuid });
  }

  #forget(id: string): void {
    this.#definitions.forget(id);
    this.#usages.forget(id);
  }

  #sessionOnDefinition(id: string): void {
    this.#forget(id);
    this.#relay.tell({ type: 'definition', id });
  }

  #sessionOnAgent({ domain, state }: LibvirtEvent<'domain', 'agentLifecycle'>): void {
    const states = constants.virConnectDomainEventAgentLifecycleState;
    const connected = state === states.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;
    this.#relay.tell({ type: 'agent', id: domain.uuid, connected });
  }

  #sessionOnGap(): void {
    this.#definitions.forgetAll();
    this.#usages.forgetAll();
    this.#devices.tell();
    this.#relay.tell({ type: 'gap' });
  }

  #sessionOnLoss(): void {
    this.#definitions.forgetAll();
    this.#usages.forgetAll();
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
