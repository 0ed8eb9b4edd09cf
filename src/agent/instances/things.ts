/**
 * The names of what an instance is made of on the host: what is journaled before any of it exists. Pure.
 */
import { namesOf } from '../pools/images.ts';
import type { Services } from '../services.ts';
import { secretsOf } from '../volumes/encryption.ts';
import type { MadeName } from '../store/names.ts';
import type { InstancePlan } from './plan.ts';

/** Everything that a create makes and a delete removes; volumes that outlive the instance are not among it. */
export function thingsOfInstance(
  { pool, pools, network: driver, hypervisor }: Services,
  { id, definition, ownVolumes, ports }: InstancePlan,
): MadeName[] {
  const { nvram } = hypervisor.keptPaths(definition.name);
  return [
    { kind: 'guest', name: id },
    { kind: 'seed', name: pool.paths.seed(id) },
    { kind: 'console', name: pool.paths.consoleLog(id) },
    ...(definition.firmware === 'uefi' ? [{ kind: 'nvram', name: nvram } as const] : []),
    ...ownVolumes.map(
      (volume) => ({ kind: 'volume', name: pools.of(volume).paths.volume(volume.id) }) as const,
    ),
    ...secretsOf(ownVolumes),
    ...definition.nics.map(({ tapName }) => ({ kind: 'tap', name: tapName }) as const),
    ...ports.map(({ network, port }) => driver.reservationName(network.id, port.id)),
  ];
}

/** Copies of images that a create brings to the pools of its volumes. They stay as long as the images do. */
export function imagesOfInstance({ pools }: Services, { ownVolumes }: InstancePlan): MadeName[] {
  return ownVolumes.flatMap((volume) => namesOf(pools, volume)).filter(({ kind }) => kind === 'image');
}
