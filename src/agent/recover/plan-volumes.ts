/**
 * Volumes that no instance has: they become volumes of their own, unless some guest has one as a disk.
 *
 * What was left by an instance that is no more is kept like that too: whether it is rubbish is for an operator
 * to say.
 */
import type { FoundVolume } from '../../drivers/contracts/storage.ts';
import { leaveOut, type Planning } from './planning.ts';
import { encryptionFault } from './plan-encryption.ts';
import { gibOf } from './plan-instances.ts';

export function planFreeVolumes(planning: Planning): void {
  const { host, known, plan } = planning;
  const settled = new Set([
    ...known.volumes.map(({ id }) => id),
    ...known.busy,
    ...plan.volumes.map(({ volume }) => volume.id),
  ]);
  for (const found of host.pool.volumes.filter(({ id }) => !settled.has(id))) planOne(planning, found);
}

function planOne(planning: Planning, found: FoundVolume): void {
  const { plan, context, names } = planning;
  const { id, sizeBytes, image, label } = found;
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
      pool: context.pool,
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
  plan.allocations.push({ consumerId: id, amounts: { DISK_GB: sizeGib } });
  plan.added.push({ kind: 'volume', id, name, note: noteOn(found, name) });
}

function faultOf(planning: Planning, found: FoundVolume): string | null {
  const { id, fault, layers } = found;
  const { host, context } = planning;
  if (fault !== null) return fault;
  const keyFault = encryptionFault(found, found.label?.encryption);
  if (keyFault !== null) return keyFault;
  const path = context.volumePath(id);
  const user = host.uses.find(({ files }) => files.includes(path));
  if (user !== undefined) return `guest ${user.name} has it as a disk`;
  const claimant = host.guests.find(({ metadata }) => metadata?.volumes.some((volume) => volume.id === id));
  if (claimant !== undefined) return `guest ${claimant.name} claims it`;
  return layers.length === 0
    ? null
    : 'snapshots have left layers of it, and no guest tells which one is read';
}

function noteOn({ label }: FoundVolume, name: string): string | null {
  if (label === null) return 'the host keeps no name of it';
  if (label.instanceId !== null) return `it was made with instance ${label.instanceId}, which is not here`;
  return label.name === name ? null : `it was called ${label.name}`;
}
