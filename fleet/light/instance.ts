/**
 * An instance of a light agent, as a full one tells of it. Pure.
 */
import {
  type Instance,
  type InstanceSpec,
  type PowerState,
  withoutSecrets,
} from '../../src/model/instance.ts';

/** What a disk without an image and a size has, GiB. */
const DISK_GIB = 10;

export function builtInstance(
  id: string,
  spec: InstanceSpec,
  parts: { newId: () => string; at: string },
): Instance {
  const { newId, at } = parts;
  return {
    id,
    name: spec.name,
    generation: 1,
    generationId: id,
    lifecycle: 'building',
    power: { state: 'stopped', since: at, reason: 'being built' },
    desired: 'running',
    restarts: null,
    disowned: null,
    spec: withoutSecrets(spec),
    userDataBytes: 0,
    vendorDataBytes: 0,
    disks: spec.disks.map(({ sizeGib = DISK_GIB }, index) => ({
      volumeId: newId(),
      volume: `${spec.name}-disk${index}`,
      pool: 'default',
      sizeGib,
      deletedWithInstance: true,
    })),
    shares: [],
    nics: [],
    guest: null,
    drift: [],
    restores: null,
    createdAt: at,
  };
}

export function withPower(
  instance: Instance,
  power: { state: PowerState; reason: string; at: string },
): Instance {
  const { state, reason, at } = power;
  return { ...instance, power: { state, since: at, reason } };
}
