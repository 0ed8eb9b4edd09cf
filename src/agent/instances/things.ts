/**
 * The names of what an instance is made of on the host: what is journaled before any of it exists. Pure.
 */
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import { secretsOf } from '../volumes/encryption.ts';
import type { MadeName } from '../store/names.ts';
import type { InstancePlan } from './plan.ts';

/** Everything that a create makes and a delete removes; volumes that outlive the instance are not among it. */
export function thingsOfInstance(
  { pool, network: driver, hypervisor }: Drivers,
  { id, definition, ownVolumes, ports }: InstancePlan,
): MadeName[] {
  const { nvram } = hypervisor.keptPaths(definition.name);
  return [
    { kind: 'guest', name: id },
    { kind: 'seed', name: pool.paths.seed(id) },
    { kind: 'console', name: pool.paths.consoleLog(id) },
    ...(definition.firmware === 'uefi' ? [{ kind: 'nvram', name: nvram } as const] : []),
    ...ownVolumes.map(({ id }) => ({ kind: 'volume', name: pool.paths.volume(id) }) as const),
    ...secretsOf(ownVolumes),
    ...definition.nics.map(({ tapName }) => ({ kind: 'tap', name: tapName }) as const),
    ...ports.map(({ network, port }) => driver.reservationName(network.id, port.id)),
  ];
}
