/**
 * instance.delete: plug, definition, ports, then the files that were made with the instance.
 *
 * Nothing is taken back: a delete that fails leaves the instance `deleting`, and is asked for again.
 */
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { assertUnlayered } from '../snapshots/layers.ts';
import { NO_RESTARTS } from '../store/instances.ts';
import { secretsOf } from '../volumes/encryption.ts';
import { assertUnprotected } from '../volumes/operations.ts';
import { forgetInstance } from './create.ts';
import { type InstancePlan, planInstance } from './plan.ts';
import { requestOf } from './request.ts';
import { thingsOfInstance } from './things.ts';

export function deleteInstance(services: Services): OperationKind<'instance.delete', InstancePlan> {
  const { store, pool, hypervisor, network: driver } = services;
  return {
    method: 'instance.delete',
    version: 1,
    stages: [
      [forward('destroy', ({ id }, signal) => hypervisor.destroy(id, { signal }))],
      [forward('undefine', ({ id }, signal) => hypervisor.undefine(id, { signal }))],
      [
        forward('unbind-ports', async ({ ports }, signal) => {
          for (const { network, port } of ports) await driver.removePort(network, port, { signal });
        }),
        forward('remove-files', async ({ id, ownVolumes }, signal) => {
          await pool.removeSeed(id, { signal });
          await pool.removeConsole(id, { signal });
          for (const volume of ownVolumes) await pool.removeVolume(volume.id, { signal });
          for (const { name } of secretsOf(ownVolumes)) await hypervisor.forgetKey(name, { signal });
        }),
      ],
    ],
    removes: (plan) => thingsOfInstance(services, plan),
    accept(params) {
      const { instance, target } = requestOf(services, 'delete', params);
      const volumes = store.volumes.listOf(instance.id);
      assertUnprotected(volumes.filter(({ deletedWithInstance }) => deletedWithInstance));
      for (const volume of volumes)
        if (!volume.deletedWithInstance) assertUnlayered(store, volume, 'let go of');
      store.instances.setLifecycle(instance.id, 'deleting');
      store.instances.setRestarts(instance.id, NO_RESTARTS);
      store.instances.nextGeneration(instance.id);
      store.tellInstance('instance.changed', instance.id);
      return { verdict: 'run', target, plan: planInstance(store, pool, instance) };
    },
    succeeded: ({ id }) => forgetInstance(services, id),
    undone: () => undefined,
  };
}

/** A step whose driver calls are all idempotent and are not taken back. */
function forward(
  name: string,
  act: (plan: InstancePlan, signal: AbortSignal) => Promise<void>,
): Step<InstancePlan> {
  return { name, look: async () => null, act: (plan, { signal }) => act(plan, signal) };
}
