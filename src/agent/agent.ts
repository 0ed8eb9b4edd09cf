/**
 * The agent: its parts put together on given drivers, started and stopped in order.
 *
 *   start: store ─▶ inventory, boot of the host ─▶ recovery, where the state is not known ─▶ first look at the guests
 *          ─▶ socket; once the state is known ─▶ unfinished operations ─▶ link ─▶ networks ─▶ policies
 *   stop:  socket and link ─▶ policies ─▶ operations are suspended ─▶ watchers ─▶ store
 *
 * Stopping touches no guest, and neither does starting: what an unfinished operation still has to do is
 * decided by looking at the host. What policies start is not running.
 */
import { randomUUID } from 'node:crypto';
import type { Unsubscribe } from '../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../drivers/contracts/clock.ts';
import type { Drivers } from '../drivers/contracts/drivers.ts';
import type { Hypervisor } from '../drivers/contracts/hypervisor.ts';
import type { Peers } from '../drivers/contracts/peers.ts';
import type { Health } from '../model/node.ts';
import type { CommitWatch } from '../sqlite/database.ts';
import { condemn } from '../sqlite/set-aside.ts';
import type { Dispatcher } from './api/dispatcher.ts';
import { makeReaders } from './api/readers.ts';
import { WaysIn } from './api/ways-in.ts';
import { Collector } from './collector/collector.ts';
import type { Config } from './config/schema.ts';
import { Breakers } from './health/breakers.ts';
import { guardDrivers, watchGuests } from './health/guarded-drivers.ts';
import { HealthReporter } from './health/health-reporter.ts';
import { enrolAtStart } from './identity/enrol-at-start.ts';
import { Identity } from './identity/identity.ts';
import { ImageKeeper } from './images/keeper.ts';
import { Repositories, storeSettingsOf } from './backups/repositories.ts';
import { Uploads } from './images/uploads.ts';
import { recountInstances } from './instances/recount.ts';
import { readVendorData } from './instances/vendor-data.ts';
import { Inventories } from './inventory/inventories.ts';
import { type Credentials, FileCredentials, firstOf } from './link/credentials.ts';
import { Link, NO_SCHEDULER } from './link/link.ts';
import type { Log } from './log.ts';
import { Metering } from './metering/metering.ts';
import { mendNetworks } from './networks/operations.ts';
import { kindsOf } from './kinds.ts';
import { Operations } from './operations/operations.ts';
import { recogniseBoot } from './policies/host-boot.ts';
import { Ownership } from './policies/ownership.ts';
import { Policies } from './policies/policies.ts';
import { endFences } from './pools/held.ts';
import { HeldWatch } from './pools/held-watch.ts';
import { assertConfigured, Pools } from './pools/pools.ts';
import { GuestWatch } from './reconcile/guest-watch.ts';
import { Observer } from './reconcile/observer.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { Reservations } from './reservations/reservations.ts';
import { Recovery } from './recover/recovery.ts';
import type { Services } from './services.ts';
import { Backups, type CheckFile } from './store/backup.ts';
import { openStore } from './store/open.ts';
import { DATABASE_NAME, findDamageInStoreFile } from './store/store.ts';
import { LayerKeeper } from './snapshots/keeper.ts';
import { Wiper } from './volumes/wiper.ts';

/** How long the start waits for the hypervisor's first word before states are told as unknown, ms. */
const FIRST_CONTACT_MS = 3_000;

export interface AgentParts {
  config: Config;
  drivers: Drivers;
  clock: Clock;
  log: Log;
  /** Told of each commit of the store. @default nobody */
  commits?: CommitWatch | undefined;
  /** Looks at all of a database file; where it takes long, in a process of its own. @default in this one */
  checkFile?: CheckFile;
  /** Tells who calls on a local socket. @default nobody can */
  peers?: Peers | null;
}

export class Agent {
  readonly services: Services;
  readonly operations: Operations;
  readonly dispatcher: Dispatcher;
  readonly #config: Config;
  readonly #guestWatch: GuestWatch;
  readonly #reconciler: Reconciler;
  readonly #reporter: HealthReporter;
  readonly #unwatchGuests: Unsubscribe;
  readonly #collector: Collector;
  readonly #ownership: Ownership;
  readonly #policies: Policies;
  readonly #imageKeeper: ImageKeeper;
  readonly #layerKeeper: LayerKeeper;
  readonly #heldWatch: HeldWatch;
  /** One for each pool. */
  readonly #wipers: Wiper[];
  readonly #ways: WaysIn;
  readonly #identity: Identity;
  readonly #link: Link;
  readonly #recovery: Recovery;
  readonly #backups: Backups;
  readonly #stopping = new AbortController();
  #isDamaged = false;
  readonly #damage = Promise.withResolvers<string>();
  #mending: Promise<void> = Promise.resolve();

  /** Opens the store; starts nothing. @throws {AgentError} HOST_CONFLICT: another daemon has the state folder. */
  constructor({ config, drivers: bare, clock, log, ...rest }: AgentParts) {
    const { commits, checkFile = checkHere, peers = null } = rest;
    const startedAt = timestamp(clock);
    const folder = config.node.stateDir;
    const vendorData = readVendorData(config.seeds.vendorDataFile);
    const { store, nodeId } = openStore({ folder, clock, log, commits, newId: randomUUID });
    assertConfigured(store, config);
    for (const pool of [bare.pool, ...bare.pools.values()]) pool.enterNode(nodeId);
    store.db.onDamage((reason) => this.#onDamage(reason));
    const breakers = new Breakers({ clock, random: Math.random });
    const drivers = guardDrivers(bare, breakers);
    this.#unwatchGuests = watchGuests(bare.hypervisor, breakers);
    this.#reporter = new HealthReporter({ store, clock, log, breakers });
    this.#config = config;
    this.services = servicesOf({ config, drivers, store, clock, log, nodeId, vendorData });
    const { inventories, uploads } = this.services;
    this.#collector = new Collector({
      drivers,
      store,
      clock,
      log,
      config: config.collector,
      nodeId,
      hostname: () => inventories.hostname,
    });
    this.operations = this.#makeOperations(nodeId);
    this.#backups = new Backups({ store, folder, clock, log, checkFile });
    this.#recovery = new Recovery({ store, drivers, clock, log, nodeId, onAdded: () => this.#onAdded() });
    const { url, ownershipSeconds } = config.scheduler;
    const alternates = this.#config.scheduler.alternateUrls.length;
    this.#identity = new Identity({ stateDir: folder, nodeId, clock, log, url, alternates });
    const limitMs = url === undefined && !this.#identity.isEnrolled ? null : ownershipSeconds * 1000;
    this.#ownership = new Ownership({ store, clock, log, limitMs });
    this.#ownership.onAnswered(() => void endFences(this.services));
    this.#policies = new Policies(this.services, this.operations, this.#ownership);
    const health = {
      breakers,
      reporter: this.#reporter,
      scheduler: () => this.#schedulerHealth(startedAt),
      policies: () => this.#ownership.health,
    };
    const identity = { nodeId, startedAt, health, recovery: this.#recovery, backups: this.#backups };
    const { operations } = this;
    const answering = { operations, collector: this.#collector, identity, credentials: this.#identity };
    const readers = makeReaders(this.services, answering);
    const forWays = { config, store, uploads, peers, clock, log };
    this.#ways = new WaysIn({ ...forWays, operations: this.operations, readers, gate: this.#recovery });
    this.dispatcher = this.#ways.dispatcher;
    this.#reconciler = new Reconciler({
      ...this.services,
      operations: this.operations,
      ownership: this.#ownership,
    });
    this.#guestWatch = new GuestWatch({ store, hypervisor: drivers.hypervisor, clock, log });
    const settings = config.images;
    const forKeepers = { store, clock, log, operations: this.operations };
    this.#imageKeeper = new ImageKeeper({ ...forKeepers, settings });
    this.#layerKeeper = new LayerKeeper({ ...forKeepers, settings: config.snapshots });
    this.#wipers = makeWipers(this.services, config);
    this.#heldWatch = new HeldWatch(this.services);
    this.#link = this.#makeLink(nodeId);
  }

  async start(): Promise<void> {
    const { inventories, hypervisor, observer, clock } = this.services;
    this.services.metering.watch();
    this.services.reservations.start();
    recountInstances(this.services.store);
    await Promise.all([inventories.start(), firstContact(hypervisor, clock), recogniseBoot(this.services)]);
    await this.#recovery.start();
    this.#reconciler.start();
    await observer.start();
    this.#guestWatch.start();
    const isKnown = this.#recovery.isServing;
    if (isKnown) this.#takeUp();
    await this.#ways.listen();
    this.#backups.start();
    this.#recovery.onServing(() => this.#serve(isKnown));
  }

  /**
   * Resolves with the reason once the database turns out to be damaged: it is marked to be set aside, and an
   * agent that is made after this one has stopped rebuilds it.
   */
  get damaged(): Promise<string> {
    return this.#damage.promise;
  }

  get isDamaged(): boolean {
    return this.#isDamaged;
  }

  async stop(): Promise<void> {
    const { inventories, observer, store } = this.services;
    this.#stopping.abort();
    this.#recovery.close();
    this.#imageKeeper.close();
    this.#layerKeeper.close();
    this.#identity.close();
    this.#link.close();
    this.#policies.close();
    await this.#ways.closeSockets();
    await this.operations.suspend();
    await Promise.all([this.#mending, this.#collector.close(), this.#backups.close()]);
    await Promise.all([...this.#wipers.map((wiper) => wiper.close()), this.#heldWatch.close()]);
    await this.services.metering.close();
    this.#reconciler.close();
    this.#guestWatch.close();
    observer.close();
    inventories.close();
    this.services.reservations.close();
    this.#unwatchGuests();
    this.#reporter.close();
    this.#ways.close();
    store.close();
  }

  /** Takes no more callers, and begins nothing by itself; for a test that plays a crash. */
  async closeSocket(): Promise<void> {
    this.#imageKeeper.close();
    this.#layerKeeper.close();
    this.#policies.close();
    this.#reconciler.close();
    await this.#heldWatch.close();
    await this.#ways.closeSockets();
  }

  /** What was left unfinished, what the host has that it should not, and the age of images. */
  #takeUp(): void {
    this.operations.resume();
    this.#reconciler.begin();
    this.#imageKeeper.start();
    this.#layerKeeper.start();
    for (const wiper of this.#wipers) wiper.start();
    this.#heldWatch.start();
    this.services.metering.start();
  }

  /** @param isResumed Whether the unfinished operations were taken up already. */
  #serve(isResumed: boolean): void {
    if (!isResumed) this.#takeUp();
    this.#beginLink();
    this.#collector.start(() => this.operations.submit('node.collect', {}, 'collector-policy'));
    this.#mending = this.#mendAndBegin();
  }

  /** Guests that policies start find their networks whole. */
  async #mendAndBegin(): Promise<void> {
    try {
      await mendNetworks(this.services, this.#stopping.signal);
      if (!this.#stopping.signal.aborted) this.#policies.begin();
    } catch (error) {
      this.services.log.error({ error }, 'the policies could not begin: no guest is started by itself');
    }
  }

  /** After objects came into the store that were not there at the start. */
  #onAdded(): void {
    const { observer } = this.services;
    void observer.lookAgain().then(() => this.#guestWatch.lookAgain());
    this.#mending = this.#mending.then(() => mendNetworks(this.services, this.#stopping.signal));
  }

  #onDamage(reason: string): void {
    this.#isDamaged = true;
    const { clock, log } = this.services;
    log.error({ reason }, 'THE DATABASE IS DAMAGED: the agent stops, to set it aside and rebuild it');
    try {
      condemn(this.#config.node.stateDir, DATABASE_NAME, { reason, at: timestamp(clock) });
    } catch (error) {
      log.error({ error }, 'the damaged database could not be marked');
    }
    this.#damage.resolve(reason);
  }

  #makeOperations(nodeId: string): Operations {
    const { store, clock, log } = this.services;
    const { parallel, timeoutSeconds } = this.#config.operations;
    const kinds = kindsOf(this.services, this.#collector, nodeId);
    return new Operations({ store, clock, log, kinds, parallel, timeoutMs: timeoutSeconds * 1000 });
  }

  #makeLink(nodeId: string): Link {
    const { store, inventories, clock, log } = this.services;
    return new Link({
      credentials: credentialsOf(this.#config, this.#identity),
      alternateUrls: this.#config.scheduler.alternateUrls,
      store,
      inventories,
      clock,
      log,
      nodeId,
      role: this.#config.scheduler.role,
      dispatcher: this.dispatcher,
      ownership: this.#ownership,
      onLinked: (ask) => this.#identity.linked(ask),
      random: Math.random,
      newId: randomUUID,
    });
  }

  #beginLink(): void {
    const { enrolTokenFile: tokenFile, ownershipSeconds } = this.#config.scheduler;
    const { clock, log } = this.services;
    this.#identity.onChange(() => {
      this.#ownership.limitTo(ownershipSeconds * 1000);
      this.#link.redial();
    });
    this.#link.start();
    if (tokenFile === undefined) return;
    void enrolAtStart({ identity: this.#identity, tokenFile, clock, log, signal: this.#stopping.signal });
  }

  #schedulerHealth(startedAt: string): Health {
    const { health } = this.#link;
    if (health.reason !== NO_SCHEDULER) return health;
    const { url, enrolTokenFile } = this.#config.scheduler;
    const { problem } = this.#identity;
    const isWanted = (url ?? enrolTokenFile ?? problem ?? undefined) !== undefined;
    if (!isWanted) return { state: 'ok', since: startedAt, reason: NO_SCHEDULER };
    return {
      ...health,
      state: 'unavailable',
      reason: `this node is not enrolled${problem === null ? '' : `: ${problem}`}`,
    };
  }
}

/** A certificate of the operator's, else that of the enrolment, else a bearer token. */
function credentialsOf({ scheduler }: Config, identity: Identity): Credentials {
  const { url, tokenFile, certFile } = scheduler;
  if (url === undefined) return identity;
  const files = new FileCredentials({ ...scheduler, url });
  if (certFile !== undefined) return files;
  return tokenFile === undefined ? identity : firstOf(identity, files);
}

function servicesOf(
  parts: Pick<Services, 'store' | 'clock' | 'log' | 'vendorData'> & {
    config: Config;
    drivers: Drivers;
    nodeId: string;
  },
): Services {
  const { config, drivers, nodeId, ...given } = parts;
  const { store, clock, log } = given;
  const inventories = new Inventories({ store, drivers, clock, log, config, nodeId });
  return {
    ...drivers,
    ...given,
    pools: new Pools(drivers, store),
    inventories,
    reservations: new Reservations({ store, inventories, clock, log }),
    observer: new Observer({ store, hypervisor: drivers.hypervisor, clock, log }),
    uploads: new Uploads({ pool: drivers.pool, clock }),
    repositories: new Repositories({
      objects: drivers.objects,
      keys: drivers.keys,
      settings: storeSettingsOf(config),
      clock,
    }),
    metering: new Metering({ store, hypervisor: drivers.hypervisor, clock, log, ...meteringOf(config) }),
  };
}

function makeWipers({ pools, store, clock, log }: Services, { storage }: Config): Wiper[] {
  const { wipeMibps } = storage;
  return pools.all.map((pool) => new Wiper({ store, pool, clock, log, wipeMibps }));
}

function meteringOf({ metering: settings, node, scheduler }: Config) {
  const hasScheduler = scheduler.url !== undefined;
  return { settings, folder: node.stateDir, hasScheduler, newId: randomUUID };
}

async function checkHere(path: string): Promise<string | null> {
  return findDamageInStoreFile(path);
}

/** Resolves when the hypervisor is connected, or after FIRST_CONTACT_MS. */
async function firstContact(hypervisor: Hypervisor, clock: Clock): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const unsubscribe = hypervisor.onHealth((health) => health.connected && resolve());
  const cancelTimer = clock.after(FIRST_CONTACT_MS, resolve);
  if (hypervisor.health().connected) resolve();
  await promise;
  unsubscribe();
  cancelTimer();
}
