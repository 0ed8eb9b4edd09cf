/**
 * The plan of an instance: every name and number of what will be made, fixed before anything is.
 *
 * It is journaled with the operation and rebuilt from the store for later ones, so a start after a crash,
 * or on another day, works with exactly what the create has made.
 */

import type {
  BackingFile,
  GuestDefinition,
  GuestDisk,
  GuestShare,
} from '../../drivers/contracts/hypervisor.ts';
import type { NetworkPlan, PortPlan } from '../../drivers/contracts/network.ts';
import type { HomePool } from '../../drivers/contracts/storage.ts';
import type { Instance } from '../../model/instance.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { InstanceShare } from '../../model/share.ts';
import type { Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import type { PlannedVolume } from '../pools/images.ts';
import type { Pools } from '../pools/pools.ts';
import { type Port, planOf } from '../store/networks.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import type { Store } from '../store/store.ts';
import { keyed } from '../volumes/encryption.ts';
import { type GuestMetadata, writeMetadata } from './metadata.ts';

/** Marks our guests among those of the host, for people who look at it with the hypervisor's own tools. */
export const GUEST_NAME_PREFIX = 'berth-';
/** A serial is cut off by virtio-blk at this length. @see VIRTIO_BLK_ID_BYTES, linux/virtio_blk.h */
const SERIAL_LENGTH = 20;
/** Of the disk with the seed; no volume's, which have hexadecimal digits. */
export const SEED_SERIAL = 'seed';

export interface PortOfNetwork {
  network: NetworkPlan;
  port: PortPlan;
}

export interface InstancePlan {
  id: string;
  name: string;
  definition: GuestDefinition;
  /** Volumes that are made with the instance and deleted with it. */
  ownVolumes: PlannedVolume[];
  ports: PortOfNetwork[];
}

/**
 * The plan of an instance whose rows are in the store.
 *
 * @param volumes Its disks in boot order, where they will be others than the store says.
 */
export function planInstance(
  store: Store,
  pools: Pools,
  instance: Instance,
  volumes: Volume[] = store.volumes.listOf(instance.id),
): InstancePlan {
  const { id, name } = instance;
  const ports = store.networks.portsOf(id).map((port) => portOf(store, port, name));
  return {
    id,
    name,
    definition: defineGuest(store, pools, { instance, volumes, ports, shares: store.shares.stayingOf(id) }),
    ownVolumes: volumes
      .filter((volume) => volume.deletedWithInstance)
      .map((volume) => volumeRequest(store, volume)),
    ports,
  };
}

export function volumeRequest(store: Store, volume: Volume): PlannedVolume {
  const image = volume.imageId === null ? null : store.images.get(volume.imageId);
  return {
    id: volume.id,
    pool: volume.pool,
    sizeBytes: volume.sizeGib * GIB,
    image: image === null ? null : { id: image.id, format: image.format },
    label: {
      name: volume.name,
      createdAt: volume.createdAt,
      instanceId: volume.deletedWithInstance ? volume.instanceId : null,
      ...(volume.protected && { protected: true }),
      ...(volume.encryption !== null && { encryption: volume.encryption }),
    },
    ...(volume.encryption !== null && { encryption: volume.encryption }),
  };
}

function defineGuest(
  store: Store,
  pools: Pools,
  parts: { instance: Instance; volumes: Volume[]; shares: InstanceShare[]; ports: PortOfNetwork[] },
): GuestDefinition {
  const { id, name, generation, generationId, spec, createdAt } = parts.instance;
  const seed: GuestDisk = {
    serial: SEED_SERIAL,
    path: pools.home.paths.seed(id),
    format: 'raw',
    readOnly: true,
    backing: null,
  };
  const snapshots = store.snapshots.stayingOf(id).map(snapshotOf);
  const taps = new Map(store.networks.portsOf(id).map((port) => [port.id, port.tapName]));
  return {
    id,
    name: `${GUEST_NAME_PREFIX}${name}`,
    vcpus: spec.vcpus,
    memoryMib: spec.memoryMib,
    firmware: spec.firmware,
    disks: [...parts.volumes.map((volume) => diskOf(store, pools, volume)), seed],
    nics: parts.ports.map(({ network, port }) => ({
      macAddress: port.macAddress,
      bridge: network.bridge,
      tapName: taps.get(port.id) as string,
    })),
    ...(parts.shares.length > 0 && { shares: parts.shares.map((share) => guestShareOf(pools.home, share)) }),
    consoleLogPath: pools.home.paths.consoleLog(id),
    watchdog: spec.watchdog,
    generationId,
    metadata: writeMetadata({
      id,
      nodeId: store.meta.get('node_id') as string,
      generation,
      seq: store.events.lastSeq(),
      spec,
      createdAt,
      volumes: parts.volumes.map((volume) => volumeOf(store, volume)),
      ports: parts.ports,
      ...(snapshots.length > 0 && { snapshots }),
      ...(parts.shares.length > 0 && { shares: parts.shares.map(carriedShare) }),
    }),
  };
}

export function guestShareOf(pool: HomePool, { shareId, tag, access }: InstanceShare): GuestShare {
  return { tag, path: pool.paths.share(shareId), readOnly: access === 'read-only' };
}

function carriedShare({ shareId: id, share: name, tag, access }: InstanceShare) {
  return { id, name, tag, access };
}

function volumeOf(store: Store, volume: Volume): GuestMetadata['volumes'][number] {
  const { id, name, pool, sizeGib, imageId, deletedWithInstance, createdAt, device, qos, encryption } =
    volume;
  const image = imageId === null ? null : { id: imageId, format: store.images.get(imageId).format };
  const kept = { id, name, sizeGib, image, deletedWithInstance, createdAt };
  return {
    ...kept,
    ...(pool !== DEFAULT_POOL && { pool }),
    protected: volume.protected,
    device,
    qos,
    // Absent where it is not: the definition is then as it was before there were any.
    ...(encryption !== null && { encryption }),
  };
}

function snapshotOf({ instanceId: _instance, state: _state, nvramVolumeId, ...row }: SnapshotRow) {
  return { ...row, ...(nvramVolumeId !== null && { nvramVolumeId }) };
}

/** What a guest sees a volume by, for as long as there is the volume. */
export function serialOf(volumeId: string): string {
  return volumeId.replaceAll('-', '').slice(0, SERIAL_LENGTH);
}

export function diskOf(store: Store, pools: Pools, volume: Volume): GuestDisk {
  const chain = chainOf(store, pools, volume);
  const { device, qos } = volume;
  return { serial: serialOf(volume.id), ...chain, readOnly: false, device, qos };
}

/** The active file of a volume, with all that it stands on. */
function chainOf(store: Store, pools: Pools, volume: Volume) {
  const { id, imageId } = volume;
  const { paths } = pools.of(volume);
  const image = imageId === null ? null : store.images.get(imageId);
  const base = image === null ? null : { path: paths.image(image.id, image.format), format: image.format };
  const own: BackingFile & { backing: BackingFile | null } = {
    path: paths.volume(id),
    format: 'qcow2',
    backing: base,
    ...keyed(volume),
  };
  return store.layers.chainOf(id).reduce(
    (below, layer) => ({
      path: paths.layer(id, layer),
      format: 'qcow2' as const,
      backing: below,
      ...keyed(volume),
    }),
    own,
  );
}

function portOf(store: Store, port: Port, hostname: string): PortOfNetwork {
  return {
    network: planOf(store.networks.get(port.networkId)),
    port: { id: port.id, macAddress: port.macAddress, ipAddress: port.ipAddress, hostname },
  };
}
