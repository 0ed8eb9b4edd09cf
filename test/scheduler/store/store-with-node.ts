/** A store in memory that knows one node. */
import { Store } from '../../../src/scheduler/store/store.ts';
import { anInventory } from '../support/samples.ts';

export const NODE = '11111111-1111-4111-8111-111111111111';
export const NOTHING = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };

export function storeWithNode(path = ':memory:'): Store {
  const store = new Store(path);
  const inventory = anInventory({
    nodeId: NODE,
    hostname: 'alpha',
    generation: 1,
    total: NOTHING,
    used: NOTHING,
  });
  store.db.transaction(() =>
    store.nodes.put({
      id: NODE,
      hostname: 'alpha',
      version: '0.1.0',
      inventory,
      state: 'ready',
      since: '2026-01-01T00:00:00.000Z',
      reason: 'it has connected',
      lastSeq: 0,
      registeredAt: '2026-01-01T00:00:00.000Z',
    }),
  );
  return store;
}
