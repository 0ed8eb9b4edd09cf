/**
 * The plan of an instance: every name and number of what will be made, fixed before anything is.
 *
 * It is journaled with the operation and rebuilt from the store for later ones, so a start after a crash,
 * or on another day, works with exactly what the create has made.
 */

import type { GuestDefinition, GuestDisk } from '../../drivers/contracts/hypervisor.ts';
import type { NetworkPlan, PortPlan } from '../../drivers/contracts/network.ts';
import type { StoragePool, VolumeRequest } from '../../drivers/contracts/storage.ts';
import type { Instance } from '../../model/instance.ts';
import type { Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import { type Port, planOf } from '../store/networks.ts';
import type { Store } from '../store/store.ts';
import { type GuestMetadata, writeMetadata } from './metadata.ts';

/** Marks our guests among those of the host, for people who look at it with the hypervisor's own tools. */
export const GUEST_NAME_PREFIX = 'berth-';
/** A serial is cut off by virtio-blk at this length. @see VIRTIO_BLK_ID_BYTES, linux/virtio_blk.h */
const SERIAL_LENGTH = 20;

export interface PortOfNetwork {
  network: NetworkPlan;
  port: PortPlan;
}

export interface InstancePlan {
  id: string;
  name: string;
  definition: GuestDefinition;
  /** Volumes that are made with the instance and deleted with it. */
  ownVolumes: VolumeRequest[];
  ports: PortOfNetwork[];
}

/**
 * The plan of an instance whose rows are in the store.
 *
 * @param volumes Its disks in boot order, where they will be others than the store says.
 */
export function planInstance(
  store: Store,
  pool: StoragePool,
  instance: Instance,
  volumes: Volume[] = store.volumes.listOf(instance.id),
): InstancePlan {
  const { id, name } = instance;
  const ports = store.networks.portsOf(id).map((port) => portOf(store, port, name));
  return {
    id,
    name,
    definition: defineGuest(store, pool, { instance, volumes, ports }),
    ownVolumes: volumes
      .filter((volume) => volume.deletedWithInstance)
      .map((volume) => volumeRequest(store, volume)),
    ports,
  };
}

export function volumeRequest(store: Store, volume: Volume): VolumeRequest {
  const image = volume.imageId === null ? null : store.images.get(volume.imageId);
  return {
    id: volume.id,
    sizeBytes: volume.sizeGib * GIB,
    image: image === null ? null : { id: image.id, format: image.format },
    label: {
      name: volume.name,
      createdAt: volume.createdAt,
      instanceId: volume.deletedWithInstance ? volume.instanceId : null,
      ...(volume.protected && { protected: true }),
    },
  };
}

function defineGuest(
  store: Store,
  pool: StoragePool,
  parts: { instance: Instance; volumes: Volume[]; ports: PortOfNetwork[] },
): GuestDefinition {
  const { id, name, generation, spec, createdAt } = parts.instance;
  const seed: GuestDisk = {
    serial: 'seed',
    path: pool.paths.seed(id),
    format: 'raw',
    readOnly: true,
    backing: null,
  };
  const taps = new Map(store.networks.portsOf(id).map((port) => [port.id, port.tapName]));
  return {
    id,
    name: `${GUEST_NAME_PREFIX}${name}`,
    vcpus: spec.vcpus,
    memoryMib: spec.memoryMib,
    firmware: spec.firmware,
    disks: [...parts.volumes.map((volume) => diskOf(store, pool, volume)), seed],
    nics: parts.ports.map(({ network, port }) => ({
      macAddress: port.macAddress,
      bridge: network.bridge,
      tapName: taps.get(port.id) as string,
    })),
    consoleLogPath: pool.paths.consoleLog(id),
    watchdog: spec.watchdog,
    metadata: writeMetadata({
      id,
      nodeId: store.meta.get('node_id') as string,
      generation,
      seq: store.events.lastSeq(),
      spec,
      createdAt,
      volumes: parts.volumes.map((volume) => volumeOf(store, volume)),
      ports: parts.ports,
    }),
  };
}

function volumeOf(store: Store, volume: Volume): GuestMetadata['volumes'][number] {
  const { id, name, sizeGib, imageId, deletedWithInstance, createdAt, device, qos } = volume;
  const image = imageId === null ? null : { id: imageId, format: store.images.get(imageId).format };
  const kept = { id, name, sizeGib, image, deletedWithInstance, createdAt };
  return { ...kept, protected: volume.protected, device, qos };
}

/** What a guest sees a volume by, for as long as there is the volume. */
export function serialOf(volumeId: string): string {
  return volumeId.replaceAll('-', '').slice(0, SERIAL_LENGTH);
}

export function diskOf(store: Store, pool: StoragePool, volume: Volume): GuestDisk {
  const image = volume.imageId === null ? null : store.images.get(volume.imageId);
  return {
    serial: serialOf(volume.id),
    path: pool.paths.volume(volume.id),
    format: 'qcow2',
    readOnly: false,
    backing: image === null ? null : { path: pool.paths.image(image.id, image.format), format: image.format },
    device: volume.device,
    qos: volume.qos,
  };
}

function portOf(store: Store, port: Port, hostname: string): PortOfNetwork {
  return {
    network: planOf(store.networks.get(port.networkId)),
    port: { id: port.id, macAddress: port.macAddress, ipAddress: port.ipAddress, hostname },
  };
}
