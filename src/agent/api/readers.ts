/**
 * The reads of the method table. All but instance.console and node.doctor answer from memory and the store.
 */
import type { NodeStatus } from '../../model/node.ts';
import { VERSION } from '../../model/version.ts';
import { examineNode } from '../inventory/doctor.ts';
import type { Operations } from '../operations/operations.ts';
import type { Services } from '../services.ts';
import type { Readers } from './dispatcher.ts';

/** Reading the end of a log file takes milliseconds, or the pool hangs. */
const CONSOLE_TIMEOUT_MS = 5_000;

export interface NodeIdentity {
  nodeId: string;
  startedAt: string;
  schedulerHealth: () => NodeStatus['scheduler'];
}

export function makeReaders(services: Services, operations: Operations, identity: NodeIdentity): Readers {
  const { store, pool, inventories } = services;
  return {
    'node.status': () => nodeStatus(services, identity),
    'node.doctor': async () => ({ findings: await examineNode(services) }),
    'inventory.get': () => inventories.get(),

    'instance.list': () => ({ instances: store.instances.list() }),
    'instance.show': ({ id }) => ({ instance: store.instances.get(id) }),
    'instance.console': ({ id, tailBytes }) =>
      pool.readConsole(store.instances.get(id).id, tailBytes, { timeoutMs: CONSOLE_TIMEOUT_MS }),

    'image.list': () => ({ images: store.images.list() }),
    'image.show': ({ id }) => ({ image: store.images.get(id) }),
    'volume.list': () => ({ volumes: store.volumes.list() }),
    'volume.show': ({ id }) => ({ volume: store.volumes.get(id) }),
    'network.list': () => ({ networks: store.networks.list() }),
    'network.show': ({ id }) => ({ network: store.networks.get(id) }),

    'operation.list': (filter) => ({ operations: operations.list(filter) }),
    'operation.get': async ({ id, waitSeconds }, signal) => ({
      operation: await operations.wait(id, waitSeconds * 1000, signal),
    }),
    'operation.cancel': ({ id }) => ({ operation: operations.cancel(id) }),

    'event.list': ({ after, limit }) => ({
      events: store.events.after(after, limit),
      firstSeq: store.events.firstSeq(),
      lastSeq: store.events.lastSeq(),
    }),
  };
}

function nodeStatus(
  { store, hypervisor, inventories, observer }: Services,
  identity: NodeIdentity,
): NodeStatus {
  const health = hypervisor.health();
  return {
    nodeId: identity.nodeId,
    hostname: inventories.hostname,
    version: VERSION,
    startedAt: identity.startedAt,
    hypervisor: {
      state: health.connected ? 'ok' : 'unavailable',
      since: new Date(health.since).toISOString(),
      reason: health.reason,
    },
    storage: inventories.storageHealth,
    scheduler: identity.schedulerHealth(),
    instances: store.instances.countByPower(),
    foreignDomains: observer.foreignGuests,
    operations: {
      running: store.operations.count('running') + store.operations.count('undoing'),
      pending: store.operations.count('pending'),
    },
    unacknowledgedEvents: store.events.lastSeq() - store.events.acknowledged(),
  };
}
