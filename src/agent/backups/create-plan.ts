/** What a backup.create is to do, as it is journaled: decided when it is asked for, of what the instance is then. */
import { randomUUID } from 'node:crypto';
import type { VolumeRequest } from '../../drivers/contracts/storage.ts';
import type { BackupNic, BackupVolume } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { type Instance, type InstanceSpec, withoutSecrets } from '../../model/instance.ts';
import type { Params } from '../../model/methods.ts';
import type { InstanceShare } from '../../model/share.ts';
import type { Quiesce } from '../../model/snapshot.ts';
import type { Volume } from '../../model/storage.ts';
import { MIB } from '../../model/units.ts';
import { volumeRequest } from '../instances/plan.ts';
import type { Services } from '../services.ts';
import { nvramVolumeOf } from '../snapshots/nvram.ts';

export interface PlannedVolume
  extends Pick<VolumeRequest, 'id' | 'sizeBytes' | 'image' | 'encryption'>,
    Pick<BackupVolume, 'name' | 'device' | 'qos'> {
  /** What of its image it may hold, bytes. */
  imageBytes: number;
}

export interface CreatePlan {
  /** Of the instance. */
  id: string;
  name: string;
  backupId: string;
  store: string;
  instance: InstanceSpec;
  volumes: PlannedVolume[];
  /** Asked for a full one. @default false */
  full?: boolean;
  /** @default no limit */
  bytesPerSecond?: number;
  /** @default 'never', as older versions did */
  quiesce?: Quiesce;
  /** @default not known */
  nics?: BackupNic[];
  /** @default not known */
  shares?: InstanceShare[];
  /** The volume that its firmware variables are kept beside; null for a BIOS guest. @default null: of version 3 */
  nvramVolumeId?: string | null;
}

/** @throws {AgentError} NOT_FOUND: the store. ILLEGAL_STATE: what is encrypted would be in clear there. */
export function planOf(
  services: Services,
  instance: Instance,
  { store: storeName, full, bandwidthMibPerSecond, quiesce }: Params<'backup.create'>,
): CreatePlan {
  const { store, repositories } = services;
  const disks = store.volumes.listOf(instance.id);
  assertKeptSecret(services, disks, storeName);
  return {
    id: instance.id,
    name: instance.name,
    backupId: randomUUID(),
    store: repositories.nameOf(storeName),
    instance: withoutSecrets(instance.spec),
    nics: nicsOf(services, instance.id),
    shares: instance.shares,
    nvramVolumeId: nvramVolumeOf(instance),
    quiesce,
    volumes: disks.map((volume) => plannedVolume(services, volume)),
    ...(full === true && { full }),
    ...(bandwidthMibPerSecond !== undefined && { bytesPerSecond: bandwidthMibPerSecond * MIB }),
  };
}

/** What is encrypted here is not sent to where it would be in clear. @throws {AgentError} ILLEGAL_STATE */
function assertKeptSecret(
  { repositories }: Services,
  volumes: readonly Volume[],
  storeName: string | undefined,
): void {
  const store = repositories.nameOf(storeName);
  const encrypted = volumes.find(({ encryption }) => encryption !== null);
  if (encrypted === undefined || repositories.isEncrypted(store)) return;
  const what = `Volume ${encrypted.name} is encrypted, and backups in ${store} are in clear`;
  throw new AgentError('ILLEGAL_STATE', what, {
    hint: `Give the object store ${store} a backupKeyFile in the configuration, and restart berthd.`,
  });
}

function plannedVolume({ store }: Services, volume: Volume): PlannedVolume {
  const { id, sizeBytes, image, encryption = null } = volumeRequest(store, volume);
  return {
    ...(encryption !== null && { encryption }),
    id,
    name: volume.name,
    device: volume.device,
    ...(volume.qos !== null && { qos: volume.qos }),
    sizeBytes,
    image,
    imageBytes: image === null ? 0 : store.images.get(image.id).virtualSizeBytes,
  };
}

function nicsOf({ store }: Services, instanceId: string): BackupNic[] {
  return store.networks.portsOf(instanceId).map(({ networkId, macAddress, ipAddress }) => ({
    network: store.networks.get(networkId).name,
    macAddress,
    ipAddress,
  }));
}
