/**
 * instance.delete: plug, definition, ports, then the files that were made with the instance.
 *
 * Its own volumes may be wiped: they are set aside for the wiper, layers and memories of snapshots with them.
 * Nothing is taken back: a delete that fails leaves the instance `deleting`, and is asked for again.
 */
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { assertUnlayered } from '../snapshots/layers.ts';
import { NO_RESTARTS } from '../store/instances.ts';
import { secretsOf } from '../volumes/encryption.ts';
import { assertUnprotected } from '../volumes/operations.ts';
import { forgetInstance } from './create.ts';
import { removeNvramCopy } from './nvram-copy.ts';
import { type InstancePlan, planInstance } from './plan.ts';
import { requestOf } from './request.ts';
import { endGuest } from './steps.ts';
import { thingsOfInstance } from './things.ts';

interface DeletePlan extends InstancePlan {
  /** Whether the bytes of its own volumes are to be overwritten by the wiper. @default false: a plan of version 1 */
  wipe?: boolean;
}

export function deleteInstance(services: Services): OperationKind<'instance.delete', DeletePlan> {
  const { store, pool, pools, hypervisor, network: driver } = services;
  const walk = {
    stages: [
      [forward('destroy', ({ id }, signal) => endGuest(services, id, signal))],
      [forward('undefine', ({ id }, signal) => hypervisor.undefine(id, { signal }))],
      [
        forward('unbind-ports', async ({ ports }, signal) => {
          for (const { network, port } of ports) await driver.removePort(network, port, { signal });
        }),
        forward('remove-files', async ({ id, ownVolumes, wipe = false }, signal) => {
          await pool.removeSeed(id, { signal });
          await pool.removeConsole(id, { signal });
          await removeNvramCopy(services, id, { signal });
          for (const volume of ownVolumes) {
            const own = pools.of(volume);
            if (wipe) await own.setVolumeAside(volume.id, { signal });
            else await own.removeVolume(volume.id, { signal });
          }
          for (const { name } of secretsOf(ownVolumes)) await hypervisor.forgetKey(name, { signal });
        }),
      ],
    ],
    removes: (plan: DeletePlan) => thingsOfInstance(services, plan),
    succeeded: ({ id, wipe = false }: DeletePlan) => forgetInstance(services, id, { wipe }),
    undone: () => undefined,
  };
  return {
    ...walk,
    method: 'instance.delete',
    version: 2,
    // Version 1 wiped nothing; its plans do not say so.
    past: [{ ...walk, version: 1 }],
    accept({ wipe = false, ...params }) {
      const { instance, target } = requestOf(services, 'delete', params);
      const volumes = store.volumes.listOf(instance.id);
      assertUnprotected(volumes.filter(({ deletedWithInstance }) => deletedWithInstance));
      for (const volume of volumes)
        if (!volume.deletedWithInstance) assertUnlayered(store, volume, 'let go of');
      store.instances.setLifecycle(instance.id, 'deleting');
      store.instances.setRestarts(instance.id, NO_RESTARTS);
      store.instances.nextGeneration(instance.id);
      store.tellInstance('instance.changed', instance.id);
      return { verdict: 'run', target, plan: { ...planInstance(store, pools, instance), wipe } };
    },
  };
}

/** A step whose driver calls are all idempotent and are not taken back. */
function forward(
  name: string,
  act: (plan: DeletePlan, signal: AbortSignal) => Promise<void>,
): Step<DeletePlan> {
  return { name, look: async () => null, act: (plan, { signal }) => act(plan, signal) };
}
