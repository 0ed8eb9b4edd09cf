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

export interface LayerPlan {
  /** Of the instance. */
  id: string;
  layer: string;
}

/** Rows; without any on the host yet. @param parents Which layer each volume's stands on. */
export function noteLayers<P extends LayerPlan>(
  { store }: Services,
  write: (plan: P) => Iterable<{ volumeId: string; parent: LayerId }>,
): Step<P> {
  return {
    name: 'note-layers',
    look: async (plan) => (parentsOf(store, plan).length > 0 ? {} : null),
    act: async (plan) =>
      store.db.transaction(() => {
        for (const { volumeId, parent } of write(plan))
          store.layers.add(volumeId, { id: plan.layer, parent });
        accountLayer(store, plan.layer);
      }),
    undo: async (plan) => store.db.transaction(() => takeBack(store, plan)),
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
    },
    async undo({ id: instanceId, layer }, { signal }) {
      for (const { id: volumeId } of store.volumes.listOf(instanceId)) {
        await assertClosed(services, { instanceId, volumeId, layer }, signal);
        await pools.holding(volumeId).removeLayer(volumeId, layer, { signal });
      }
    },
  };
}
