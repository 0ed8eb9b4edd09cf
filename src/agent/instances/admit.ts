/**
 * Admission of a new instance: names, disks, addresses and room, decided and written in one transaction.
 *
 * Whatever is refused here leaves nothing behind, since the transaction goes with it.
 */

import { randomBytes, randomUUID } from 'node:crypto';
import { timestamp } from '../../drivers/contracts/clock.ts';
import { claimsOf } from '../../model/capacity.ts';
import { type DiskDevice, objectionToDevice, objectionToQos, type VolumeQos } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import type { DiskSpec, Instance, InstanceSpec, NicSpec } from '../../model/instance.ts';
import { firstFree, isGuestAddress, parseCidr } from '../../model/ipv4.ts';
import type { Network } from '../../model/network.ts';
import { memoryClaimMib } from '../../model/overhead.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Image, Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import { noteImageOf } from '../pools/images.ts';
import type { Services } from '../services.ts';
import { admitShares } from '../shares/admit.ts';
import type { Store } from '../store/store.ts';
import { knownEncryption } from '../volumes/encryption.ts';
import { userDataBytes } from './user-data.ts';

/** Locally administered prefix that QEMU's and libvirt's guests have by convention. */
const MAC_PREFIX = '52:54:00';
/** Random addresses tried before giving up: with 16 million of them, one try is nearly always enough. */
const MAC_TRIES = 100;

/**
 * Writes the rows of the instance, its own volumes, its ports, its shares and its allocation; answers how it is then.
 *
 * @throws {AgentError}
 */
export function admitInstance(services: Services, id: string, spec: InstanceSpec): Instance {
  const { store, clock, inventories } = services;
  assertNew(services, id, spec.name);
  const disks = spec.disks.map((disk) => resolveDisk(services, disk));
  const made = disks.flatMap((disk) => ('sizeGib' in disk ? [{ pool: disk.pool, gib: disk.sizeGib }] : []));
  const claim = { VCPU: spec.vcpus, MEMORY_MB: memoryClaimMib(spec), disks: claimsOf(made) };
  inventories.assertRoom(claim);
  const createdAt = timestamp(clock);
  store.instances.insert({
    id,
    spec,
    createdAt,
    power: { state: 'stopped', since: createdAt, reason: 'being built' },
    seedBytes: {
      userData: userDataBytes(spec.userData, spec.userDataEncoding),
      vendorData: userDataBytes(spec.vendorData),
    },
  });
  store.allocations.add(id, claim);
  for (const [position, disk] of disks.entries())
    insertDisk(services, { id, name: spec.name, position, disk, createdAt });
  for (const [position, nic] of spec.nics.entries()) insertPort(services, { instanceId: id, position, nic });
  admitShares(services, { id, name: spec.name }, spec.shares ?? []);
  return store.tellInstance('instance.created', id);
}

type Attributes = Pick<Volume, 'device' | 'qos' | 'encryption'>;
type ResolvedDisk = Attributes &
  ({ volumeId: string } | { image: Image | null; pool: string; sizeGib: number });

function assertNew({ store }: Services, id: string, name: string): void {
  for (const taken of [name, id]) {
    if (store.instances.find(taken) === null) continue;
    throw new AgentError('ALREADY_EXISTS', `There is an instance ${taken} on this node already`, {
      hint: 'Choose another name, or delete that one first.',
    });
  }
}

function resolveDisk(services: Services, disk: DiskSpec): ResolvedDisk {
  const { device = {}, qos = null } = disk;
  assertPossible(device, qos);
  const encryption = knownEncryption(services, disk.encryption);
  return { ...sourceOf(services, disk), device, qos, encryption };
}

/** @throws {AgentError} INVALID_ARGUMENT */
export function assertPossible(device: DiskDevice, qos: VolumeQos | null): void {
  const objection = objectionToDevice(device) ?? objectionToQos(qos ?? {});
  if (objection !== null)
    throw new AgentError('INVALID_ARGUMENT', `A disk cannot be like that: ${objection}`);
}

function sourceOf(services: Services, disk: DiskSpec) {
  if (disk.volume !== undefined) return resolveVolume(services, disk, disk.volume);
  const image = disk.image === undefined ? null : readyImage(services, disk.image);
  const imageGib = image === null ? 0 : Math.ceil(image.virtualSizeBytes / GIB);
  const sizeGib = disk.sizeGib ?? imageGib;
  if (sizeGib === 0) throw new AgentError('INVALID_ARGUMENT', 'A disk without an image needs sizeGib');
  if (sizeGib < imageGib) {
    throw new AgentError(
      'INVALID_ARGUMENT',
      `A disk of ${sizeGib} GiB is smaller than its image ${image?.name}, which has ${imageGib} GiB`,
    );
  }
  return { image, pool: poolFor(services, disk.pool), sizeGib };
}

/** The name of a pool that there is. @throws {AgentError} NOT_FOUND */
export function poolFor({ pools }: Pick<Services, 'pools'>, asked: string | undefined): string {
  return pools.of({ pool: asked ?? DEFAULT_POOL }).name;
}

function resolveVolume({ store }: Services, disk: DiskSpec, nameOrId: string): { volumeId: string } {
  if (disk.encryption !== undefined) {
    throw new AgentError('INVALID_ARGUMENT', 'A disk that is an existing volume is encrypted as that is', {
      hint: 'Leave its encryption out.',
    });
  }
  if (disk.image !== undefined || disk.sizeGib !== undefined || disk.pool !== undefined) {
    throw new AgentError(
      'INVALID_ARGUMENT',
      'A disk names an existing volume, or an image, a size and a pool; not both',
    );
  }
  return { volumeId: freeVolume(store, nameOrId).id };
}

/** A volume that no instance has and no operation is about. @throws {AgentError} NOT_FOUND, ILLEGAL_STATE */
export function freeVolume(store: Store, nameOrId: string): Volume {
  const volume = store.volumes.get(nameOrId);
  const { id, name, state, instanceId } = volume;
  if (instanceId !== null)
    throw new AgentError('ILLEGAL_STATE', `Volume ${name} is in use by another instance`);
  if (state !== 'ready') throw new AgentError('ILLEGAL_STATE', `Volume ${name} is ${state}`);
  if (store.operations.unfinishedOn({ kind: 'volume', id }).length === 0) return volume;
  throw new AgentError('ILLEGAL_STATE', `An operation on volume ${name} is under way`, {
    hint: 'Wait for its end: berth operation list.',
  });
}

/** @throws {AgentError} NOT_FOUND, ILLEGAL_STATE while it is being imported or deleted, or is damaged */
export function readyImage({ store }: Services, nameOrId: string): Image {
  const image = store.images.get(nameOrId);
  if (image.state === 'ready') return image;
  const hint =
    image.state === 'damaged'
      ? 'See `berth image show`; bring its file back and verify it, or import it anew.'
      : 'Wait until it is ready.';
  throw new AgentError('ILLEGAL_STATE', `Image ${image.name} is ${image.state}`, { hint });
}

function insertDisk(
  { store }: Services,
  parts: { id: string; name: string; position: number; disk: ResolvedDisk; createdAt: string },
): void {
  const { id, position, disk, createdAt } = parts;
  if ('volumeId' in disk) {
    store.volumes.attach(disk.volumeId, id, position);
    store.volumes.setDevice(disk.volumeId, disk.device);
    if (disk.qos !== null)
      store.volumes.configure(disk.volumeId, { ...store.volumes.get(disk.volumeId), qos: disk.qos });
    return;
  }
  const name = `${parts.name}-disk${position}`;
  if (store.volumes.nameTaken(name))
    throw new AgentError('ALREADY_EXISTS', `There is a volume ${name} already`);
  if (disk.image !== null) store.images.touch(disk.image.id, createdAt);
  store.volumes.insert(
    {
      id: randomUUID(),
      name,
      pool: disk.pool,
      sizeGib: disk.sizeGib,
      imageId: disk.image?.id ?? null,
      instanceId: id,
      deletedWithInstance: true,
      protected: false,
      device: disk.device,
      qos: disk.qos,
      encryption: disk.encryption,
      state: 'creating',
      createdAt,
    },
    position,
  );
  noteImageOf(store, { pool: disk.pool, imageId: disk.image?.id ?? null });
}

function insertPort(
  { store, network: driver }: Services,
  parts: { instanceId: string; position: number; nic: NicSpec },
): void {
  const { instanceId, position, nic } = parts;
  const network = store.networks.get(nic.network);
  if (network.state !== 'ready')
    throw new AgentError('ILLEGAL_STATE', `Network ${network.name} is ${network.state}`);
  const id = randomUUID();
  store.networks.insertPort(
    {
      id,
      instanceId,
      networkId: network.id,
      macAddress: chooseMac(nic.macAddress, (mac) => store.networks.macAddressTaken(mac)),
      ipAddress: chooseAddress(network, nic.ipAddress, store.networks.addressesIn(network.id)),
      tapName: driver.tapName(id),
    },
    position,
  );
}

function chooseMac(asked: string | undefined, taken: (mac: string) => boolean): string {
  if (asked !== undefined) {
    if (taken(asked)) throw new AgentError('ALREADY_EXISTS', `MAC address ${asked} is in use on this node`);
    return asked;
  }
  for (let i = 0; i < MAC_TRIES; i++) {
    const mac = `${MAC_PREFIX}:${randomBytes(3).toString('hex').match(/../g)?.join(':')}`;
    if (!taken(mac)) return mac;
  }
  throw new AgentError('LIMIT_REACHED', 'No free MAC address was found');
}

function chooseAddress(network: Network, asked: string | undefined, taken: ReadonlySet<string>): string {
  const range = parseCidr(network.cidr);
  if (asked === undefined) {
    const free = firstFree(range, taken);
    if (free === null)
      throw new AgentError(
        'CAPACITY_EXCEEDED',
        `Network ${network.name} (${network.cidr}) has no free address`,
      );
    return free;
  }
  if (!isGuestAddress(range, asked)) {
    throw new AgentError(
      'INVALID_ARGUMENT',
      `${asked} is no guest address of network ${network.name} (${network.cidr})`,
    );
  }
  if (taken.has(asked))
    throw new AgentError('ALREADY_EXISTS', `${asked} is in use in network ${network.name}`);
  return asked;
}
