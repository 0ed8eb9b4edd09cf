/**
 * Volumes that no instance has: they become volumes of their own, unless some guest has one as a disk.
 *
 * What was left by an instance that is no more is kept like that too: whether it is rubbish is for an operator
 * to say.
 */
import { encryptionFault } from './plan-encryption.ts';
import { leaveOut, type Planning, type PooledVolume } from './planning.ts';
import { gibOf } from './plan-instances.ts';

export function planFreeVolumes(planning: Planning): void {
  const { found: all, known, plan } = planning;
  const settled = new Set([
    ...known.volumes.map(({ id }) => id),
    ...known.busy,
    ...plan.volumes.map(({ volume }) => volume.id),
  ]);
  for (const found of all.filter(({ id }) => !settled.has(id))) planOne(planning, found);
}

function planOne(planning: Planning, found: PooledVolume): void {
  const { plan, context, names } = planning;
  const { id, pool, sizeBytes, image, label } = found;
  const reason = faultOf(planning, found);
  if (reason !== null || sizeBytes === null) {
    const object = { kind: 'volume', id, name: label?.name ?? context.names[id] ?? id } as const;
    leaveOut(planning, object, reason ?? 'its size is not known');
    return;
  }
  const name = names.take('volume', id, [label?.name, context.names[id]]);
  const sizeGib = gibOf(sizeBytes);
  plan.volumes.push({
    volume: {
      id,
      name,
      pool,
      sizeGib,
      imageId: image?.id ?? null,
      instanceId: null,
      deletedWithInstance: false,
      protected: label?.protected ?? false,
      device: {},
      qos: null,
      encryption: label?.encryption ?? null,
      state: 'ready',
      createdAt: label?.createdAt ?? context.now,
    },
    position: null,
  });
  plan.allocations.push({ consumerId: id, claim: { disks: { [pool]: sizeGib } } });
  plan.added.push({ kind: 'volume', id, name, note: noteOn(found, name) });
}

function faultOf(planning: Planning, volume: PooledVolume): string | null {
  const { id, pool, fault, layers, label } = volume;
  const { host, context, found } = planning;
  if (fault !== null) return fault;
  const keyFault = encryptionFault(volume, label?.encryption);
  if (keyFault !== null) return keyFault;
  const other = found.find((each) => each.id === id && each.pool !== pool);
  if (other !== undefined) return `it is in pool ${pool} and in pool ${other.pool}`;
  const path = context.volumePath(id, pool);
  const user = host.uses.find(({ files }) => files.includes(path));
  if (user !== undefined) return `guest ${user.name} has it as a disk`;
  const claimant = host.guests.find(({ metadata }) => metadata?.volumes.some((volume) => volume.id === id));
  if (claimant !== undefined) return `guest ${claimant.name} claims it`;
  return layers.length === 0
    ? null
    : 'snapshots have left layers of it, and no guest tells which one is read';
}

function noteOn({ label }: PooledVolume, name: string): string | null {
  if (label === null) return 'the host keeps no name of it';
  if (label.instanceId !== null) return `it was made with instance ${label.instanceId}, which is not here`;
  return label.name === name ? null : `it was called ${label.name}`;
}
