/**
 * Steps that put an empty layer on the volumes of an instance: what is written to it from then on.
 *
 * Which layer it stands on is decided when the operation's turn has come, not when it was accepted: what waited before it
 * may have merged some. The layer's id is the operation's, so its files are known by the plan.
 */
import type { LayerId } from '../../model/layers.ts';
import { GIB } from '../../model/units.ts';
import type { Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import type { Store } from '../store/store.ts';
import { accountLayer, assertClosed } from './layers.ts';
import { recordSnapshots } from './record.ts';

export interface LayerPlan {
  /** Of the instance. */
  id: string;
  layer: string;
}

/** Rows; without any on the host yet. @param parents Which layer each volume's stands on. */
export function noteLayers<P extends LayerPlan>(
  services: Services,
  write: (plan: P) => Iterable<{ volumeId: string; parent: LayerId }>,
): Step<P> {
  const { store } = services;
  return {
    name: 'note-layers',
    look: async (plan) => (parentsOf(store, plan).length > 0 ? {} : null),
    async act(plan, { signal }) {
      await recordSnapshots(services, plan.id, { signal, begins: true });
      store.db.transaction(() => {
        for (const { volumeId, parent } of write(plan))
          store.layers.add(volumeId, { id: plan.layer, parent });
        accountLayer(store, plan.layer);
      });
    },
    async undo(plan, { signal }) {
      store.db.transaction(() => takeBack(store, plan));
      await recordSnapshots(services, plan.id, { signal });
    },
  };
}

/** Rows as they were without the layer. Within a transaction. */
export function takeBack(store: Store, { id, layer }: LayerPlan): void {
  for (const volume of store.volumes.listOf(id)) store.layers.takeBack(volume.id, layer);
  accountLayer(store, layer);
}

/** What the layer stands on in each volume that has it. */
export function parentsOf(store: Store, { id, layer }: LayerPlan): { volumeId: string; parent: LayerId }[] {
  return store.volumes.listOf(id).flatMap(({ id: volumeId }) => {
    const row = store.layers.of(volumeId).layers.find((each) => each.id === layer);
    return row === undefined ? [] : [{ volumeId, parent: row.parent }];
  });
}

export function makeLayers(services: Services): Step<LayerPlan> {
  const { store, pools } = services;
  return {
    name: 'make-layers',
    look: async () => null, // idempotent
    async act(plan, { signal }) {
      for (const { volumeId, parent } of parentsOf(store, plan)) {
        const { sizeGib, encryption } = store.volumes.get(volumeId);
        const request = { volumeId, layer: plan.layer, parent, sizeBytes: sizeGib * GIB, encryption };
        await pools.holding(volumeId).makeLayer(request, { signal });
      }
      await recordSnapshots(services, plan.id, { signal });
    },
    async undo(plan, { signal }) {
      const { id: instanceId, layer } = plan;
      const volumes = store.volumes.listOf(instanceId);
      for (const { id: volumeId } of volumes)
        await assertClosed(services, { instanceId, volumeId, layer }, signal);
      store.db.transaction(() => takeBack(store, plan));
      await recordSnapshots(services, instanceId, { signal, begins: true });
      for (const { id: volumeId } of volumes) {
        await pools.holding(volumeId).removeLayer(volumeId, layer, { signal });
      }
    },
  };
}
