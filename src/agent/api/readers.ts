/**
/**
 * The reads of the method table. All but instance.console, image.append and those that look at the node's host or
 * database (node.doctor, node.load, node.leaks, node.recover, node.backup) answer from memory and the store.
 */
import type { Hypervisor } from '../../drivers/contracts/hypervisor.ts';
import type { PoolCapacity } from '../../drivers/contracts/storage.ts';
import type { Health, NodeStatus } from '../../model/node.ts';
import type { Pool } from '../../model/pool.ts';
import { VERSION } from '../../model/version.ts';
import { listBackups } from '../backups/view.ts';
import type { Breakers } from '../health/breakers.ts';
import type { HealthReporter } from '../health/health-reporter.ts';
import { listUsage } from '../metering/view.ts';
import { problemsOf } from '../health/problems.ts';
import type { Identity } from '../identity/identity.ts';
import { appendBase64 } from '../images/uploads.ts';
import { examineNode } from '../inventory/doctor.ts';
import type { PoolWatch } from '../inventory/pool-watch.ts';
import type { Collector } from '../collector/collector.ts';
import type { Operations } from '../operations/operations.ts';
import type { Recovery } from '../recover/recovery.ts';
import type { Services } from '../services.ts';
import type { Backups } from '../store/backup.ts';
import { snapshotView } from '../store/snapshots.ts';
import type { Readers } from './dispatcher.ts';

/** Reading the end of a log file takes milliseconds, or the pool hangs. */
const CONSOLE_TIMEOUT_MS = 5_000;

export interface NodeIdentity {
  nodeId: string;
  startedAt: string;
}

export interface NodeHealth {
  breakers: Breakers;
  reporter: HealthReporter;
  scheduler: () => Health;
  policies: () => Health;
}

export interface ReaderParts {
  /** By which the node shows itself to its scheduler. */
  credentials: Identity;
  operations: Operations;
  collector: Collector;
  identity: NodeIdentity & { health: NodeHealth; recovery: Recovery; backups: Backups };
}

export function makeReaders(
  services: Services,
  { operations, collector, identity, credentials }: ReaderParts,
): Readers {
  const { store, pool, inventories, observer, reservations } = services;
  return {
    'node.status': () => nodeStatus(services, operations, identity),
    'node.doctor': async () => ({ findings: await examineNode(services, collector) }),
    'node.leaks': (_params, { signal }) => collector.report(signal),
    'node.foreign': () => ({ guests: observer.foreign.list() }),
    'node.recover': ({ dryRun }, { record }) => {
      store.db.transaction(record);
      return identity.recovery.recover(dryRun);
    },
    'node.backup': ({ path }, { record }) => {
      store.db.transaction(record);
      return identity.backups.backUp(path);
    },
    'node.identity': () => credentials.view(),
    'node.enrol': ({ token }, { record }) => {
      store.db.transaction(record);
      return credentials.enrol(token);
    },
    'node.load': () => inventories.load(),
    'inventory.get': () => inventories.get(),

    'reservation.list': () => ({ reservations: reservations.list() }),
    'reservation.create': (params, { record }) => ({ reservation: reservations.create(params, record) }),
    'reservation.release': (params, { record }) => ({ released: reservations.release(params, record) }),

    'pool.list': () => ({
      pools: inventories.pools.map((pool) => poolView(services, pool, identity.health)),
    }),
    'pool.show': ({ id }) => ({ pool: poolView(services, inventories.pool(id), identity.health) }),
    'share.list': () => ({ shares: store.shares.list() }),
    'share.show': ({ id }) => {
      const share = store.shares.get(id);
      return { share, path: pool.paths.share(share.id) };
    },
    'instance.list': () => ({ instances: store.instances.list() }),
    'instance.show': ({ id }) => {
      const instance = store.instances.get(id);
      return { instance, health: identity.health.breakers.healthOf({ kind: 'instance', id: instance.id }) };
    },
    'instance.console': ({ id, tailBytes }) =>
      pool.readConsole(store.instances.get(id).id, tailBytes, { timeoutMs: CONSOLE_TIMEOUT_MS }),

    'image.list': () => ({ images: store.images.list() }),
    'image.show': ({ id }) => ({ image: store.images.get(id) }),
    'image.append': async ({ image, at, data }, { signal }) => ({
      at: await appendBase64(services.uploads, { image, at, data }, signal),
    }),
    'volume.list': () => ({ volumes: store.volumes.list() }),
    'volume.show': ({ id }) => ({ volume: store.volumes.get(id) }),
    'snapshot.list': ({ id }) => ({
      snapshots: store.snapshots.listOf(store.instances.get(id).id).map(snapshotView),
    }),
    'backup.list': (params, { signal }) => listBackups(services, params, signal),
    'network.list': () => ({ networks: store.networks.list() }),
    'network.show': ({ id }) => ({ network: store.networks.get(id) }),

    'usage.list': (filter) => listUsage(store, filter),

    'operation.list': (filter) => ({ operations: operations.list(filter) }),
    'operation.get': async ({ id, waitSeconds }, { signal }) => ({
      operation: await operations.wait(id, waitSeconds * 1000, signal),
    }),
    'operation.cancel': ({ id }, { record }) => ({ operation: operations.cancel(id, record) }),

    'event.list': ({ after, limit }) => ({
      events: store.events.after(after, limit),
      firstSeq: store.events.firstSeq(),
      lastSeq: store.events.lastSeq(),
    }),

    'audit.list': ({ after, limit }) => ({
      entries: store.audit.after(after, limit),
      head: store.audit.head(),
    }),
    'audit.verify': ({ noted }) => store.audit.verify(noted),
  };
}

function nodeStatus(
  services: Services,
  operations: Operations,
  { nodeId, startedAt, health, recovery }: ReaderParts['identity'],
): NodeStatus {
  const { store, hypervisor, inventories, observer } = services;
  const parts = {
    hypervisor: healthOfHypervisor(hypervisor),
    storage: inventories.storageHealth,
    scheduler: health.scheduler(),
    policies: health.policies(),
    database: recovery.health,
  };
  return {
    nodeId,
    hostname: inventories.hostname,
    version: VERSION,
    startedAt,
    ...parts,
    instances: store.instances.countByPower(),
    foreignDomains: observer.foreign.count,
    operations: {
      running: store.operations.count('running') + store.operations.count('undoing'),
      pending: store.operations.count('pending'),
    },
    unacknowledgedEvents: store.events.lastSeq() - store.events.acknowledged(),
    ...problemsOf({
      parts: [
        { kind: 'hypervisor', name: 'hypervisor', health: parts.hypervisor },
        ...inventories.pools.map(({ settings: { name }, health }) => ({
          kind: 'storage' as const,
          name,
          health,
        })),
        ...inventories.overcommitted.map((each) => ({ kind: 'capacity' as const, ...each })),
        { kind: 'scheduler', name: 'scheduler', health: parts.scheduler },
        { kind: 'policies', name: 'policies', health: parts.policies },
        { kind: 'database', name: 'database', health: parts.database },
        { kind: 'journal', name: 'journal', health: health.reporter.journal },
      ],
      open: health.breakers
        .open()
        .map((each) => ({ object: health.reporter.named(each.subject), health: each.health })),
      operations: operations.inTrouble(),
      nowMs: services.clock.now(),
    }),
  };
}

function poolView({ store, inventories }: Services, watch: PoolWatch, { breakers }: NodeHealth): Pool {
  const { settings, measured, room, health } = watch;
  const { name, path, nfs } = settings;
  const { capacity = null, at = null } = measured ?? {};
  return {
    name,
    path,
    nfs: nfs?.source ?? null,
    fileSystem: capacity?.fileSystem ?? null,
    shared: capacity?.shared ?? false,
    reflink: capacity?.reflink ?? null,
    disk: inventories.diskOf(watch),
    bytes: capacity === null ? null : bytesOf(capacity),
    measuredAt: at,
    room,
    volumes: store.volumes.countIn(name),
    health,
    breaker: breakers.healthOf({ kind: 'storage', id: name }),
  };
}

function bytesOf({ totalBytes, availableBytes, ownBytes }: PoolCapacity): NonNullable<Pool['bytes']> {
  return { total: totalBytes, available: availableBytes, own: ownBytes };
}

function healthOfHypervisor(hypervisor: Hypervisor): Health {
  const { connected, since, reason } = hypervisor.health();
  return { state: connected ? 'ok' : 'unavailable', since: new Date(since).toISOString(), reason };
}
