/**
 * Rows of the guests that are taken: instance, volumes in boot order, ports, and what they take of the node.
 */
import { claimsOf } from '../../model/capacity.ts';
import { Name } from '../../model/common.ts';
import { memoryClaimMib } from '../../model/overhead.ts';
import type { Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import { findFault } from '../../model/validate.ts';
import { GUEST_NAME_PREFIX } from '../instances/plan.ts';
import { hasDisk } from './choose-guests.ts';
import { encryptionFault } from './plan-encryption.ts';
import { planLayers, sizeBytesOf } from './plan-layers.ts';
import { type BelievedGuest, type Planning, poolOf } from './planning.ts';

/**
 * Added to the generation that is known: a guest carries that of its last start, and others may have been given
 * since. With it every command that was meant for an earlier one is refused as stale.
 */
export const GENERATION_LEAP = 1_000_000;

export function planInstances(planning: Planning, guests: readonly BelievedGuest[]): void {
  for (const guest of guests) planInstance(planning, guest);
}

function planInstance(planning: Planning, guest: BelievedGuest): void {
  const { plan, context, names } = planning;
  const { id, metadata, power } = guest;
  const called = calledByHost(guest.name);
  const name = names.take('instance', id, [called, metadata.spec.name]);
  const generation = Math.max(metadata.generation, context.generations[id] ?? 0) + GENERATION_LEAP;
  const volumes = planVolumes(planning, guest);
  plan.instances.push({
    id,
    spec: { ...metadata.spec, name },
    generation,
    generationId: guest.generationId ?? id,
    power: { ...power, since: context.now },
    createdAt: metadata.createdAt,
  });
  const missing = planLayers(planning, guest);
  planPorts(planning, guest);
  planAllocations(planning, guest, volumes);
  plan.added.push({ kind: 'instance', id, name, note: noteOn(planning, guest, name, missing) });
}

/** @returns those that are new */
function planVolumes(planning: Planning, guest: BelievedGuest): Volume[] {
  const { plan, known } = planning;
  const added: Volume[] = [];
  for (const [position, carried] of guest.metadata.volumes.entries()) {
    if (known.volumes.some(({ id }) => id === carried.id)) {
      plan.attached.push({ id: carried.id, instanceId: guest.id, position });
      continue;
    }
    const volume = toVolume(planning, guest, carried);
    plan.volumes.push({ volume, position });
    added.push(volume);
  }
  return added;
}

/** The hypervisor lets no two guests have one name: so it is right where it is one of ours. */
function calledByHost(guestName: string): string | null {
  if (!guestName.startsWith(GUEST_NAME_PREFIX)) return null;
  const name = guestName.slice(GUEST_NAME_PREFIX.length);
  return findFault(Name, name) === null ? name : null;
}

/** The size is what the volume's header says; a volume that is missing stays what it was, so that no start goes without it. */
function toVolume(
  planning: Planning,
  { id: instanceId }: BelievedGuest,
  carried: BelievedGuest['metadata']['volumes'][number],
): Volume {
  const { id, image, deletedWithInstance, createdAt, device = {}, qos = null } = carried;
  const encryption = carried.encryption ?? planning.volumes.get(id)?.label?.encryption ?? null;
  const { names } = planning;
  const found = planning.volumes.get(id);
  const sizeBytes = sizeBytesOf(planning, instanceId, id);
  return {
    id,
    name: names.take('volume', id, [carried.name]),
    pool: poolOf(planning, carried),
    sizeGib: sizeBytes === null ? carried.sizeGib : gibOf(sizeBytes),
    // One that was flattened says so itself, before the definition does.
    imageId: found?.fault === null && found.image === null ? null : (image?.id ?? null),
    instanceId,
    deletedWithInstance,
    protected: carried.protected ?? false,
    device,
    qos,
    encryption,
    state: 'ready',
    createdAt,
  };
}

function planPorts({ plan, context }: Planning, { id: instanceId, metadata }: BelievedGuest): void {
  for (const [position, { network, port }] of metadata.ports.entries()) {
    const { id, macAddress, ipAddress } = port;
    const tapName = context.tapName(id);
    plan.ports.push({
      port: { id, instanceId, networkId: network.id, macAddress, ipAddress, tapName },
      position,
    });
  }
}

function planAllocations({ plan }: Planning, { id, metadata }: BelievedGuest, volumes: Volume[]): void {
  const own = volumes.filter(({ deletedWithInstance }) => deletedWithInstance);
  plan.allocations.push({
    consumerId: id,
    claim: {
      VCPU: metadata.spec.vcpus,
      MEMORY_MB: memoryClaimMib(metadata.spec),
      disks: claimsOf(own.map(roomOf)),
    },
  });
  for (const volume of volumes) {
    if (!volume.deletedWithInstance)
      plan.allocations.push({ consumerId: volume.id, claim: { disks: claimsOf([roomOf(volume)]) } });
  }
}

function noteOn(
  planning: Planning,
  guest: BelievedGuest,
  name: string,
  missing: readonly string[],
): string | null {
  const volumes = guest.metadata.volumes.flatMap((volume) => volumeNotes(planning, guest, volume));
  const notes = [...volumes, ...missing];
  const called = `${GUEST_NAME_PREFIX}${name}`;
  if (guest.name !== called) notes.unshift(`the hypervisor calls it ${guest.name}, not ${called}`);
  return notes.length === 0 ? null : notes.join('; ');
}

function volumeNotes(
  planning: Planning,
  guest: BelievedGuest,
  { id, name, sizeGib, image, encryption }: BelievedGuest['metadata']['volumes'][number],
): string[] {
  const found = planning.volumes.get(id);
  if (found === undefined) return [`its volume ${name} is missing`];
  const notes = found.fault === null ? [] : [`its volume ${name}: ${found.fault}`];
  const keyFault =
    found.fault === null ? encryptionFault(found, encryption ?? found.label?.encryption) : null;
  if (keyFault !== null) notes.push(`its volume ${name}: ${keyFault}`);
  const sizeBytes = sizeBytesOf(planning, guest.id, id);
  if (sizeBytes !== null && gibOf(sizeBytes) !== sizeGib)
    notes.push(`its volume ${name} has ${gibOf(sizeBytes)} GiB, not ${sizeGib}`);
  if (found.fault === null && (found.image?.id ?? null) !== (image?.id ?? null))
    notes.push(
      `its volume ${name} stands on image ${found.image?.id ?? 'none'}, not on ${image?.id ?? 'none'}`,
    );
  if (!hasDisk(planning, guest.id, id)) notes.push(`its volume ${name} is not one of its disks now`);
  return notes;
}

export function gibOf(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / GIB));
}

function roomOf({ pool, sizeGib }: Volume): { pool: string; gib: number } {
  return { pool, gib: sizeGib };
}
