/**
 * backup.create: the disks of an instance, all of one moment, into a repository.
 *
 *   copy ─────────▶ write ─────────▶ remove-copies ─────▶ forget-older
 *   beside each     chunks that the                       checkpoints than
 *   volume          store lacks                           this backup's
 *
 * The instance goes on: while its guest runs, QEMU copies its disks of the moment at which it was asked, and makes a
 * checkpoint of it. Else nothing is copied: the disks are read where they lie, and proven to be all the while as they were
 * at first. What is read is what has changed since the backup that base.ts has found, or all; the one before stays usable
 * until this backup is in the store. What has not changed since any backup before is in the repository already and is not
 * sent.
 */
import { randomUUID } from 'node:crypto';
import type { DiskExtent } from '../../drivers/contracts/extents.ts';
import type { StoragePool, VolumeRequest } from '../../drivers/contracts/storage.ts';
import type { Backup, BackupNic, BackupVolume, Consistency } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { MIB } from '../../model/units.ts';
import { type InstanceSpec, withoutSecrets } from '../../model/instance.ts';
import type { Quiesce } from '../../model/snapshot.ts';
import type { Volume } from '../../model/storage.ts';
import { serialOf, volumeRequest } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import type { ActContext, OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { handOverKeys, keyed, keyOf } from '../volumes/encryption.ts';
import { type Base, because, checkpointOf, chooseBase } from './base.ts';
import { Pace } from './pace.ts';
import { copyQuiesced, type QuiesceRequest, thawAfterCrash } from './quiesce.ts';
import type { BackupRequest, BackupRepository } from './repository.ts';
import { viewOf } from './view.ts';

/** The largest disks, over a slow line, ms. */
export const BACKUP_TIMEOUT_MS = 24 * 3600_000;

interface PlannedVolume
  extends Pick<VolumeRequest, 'id' | 'sizeBytes' | 'image' | 'encryption'>,
    Pick<BackupVolume, 'name' | 'device' | 'qos'> {
  /** What of its image it may hold, bytes. */
  imageBytes: number;
}

interface CreatePlan {
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
}

/** What the copy's step has told: that of older versions says nothing of how it is consistent. */
type Copied = Base & {
  consistent?: Consistency;
  /** Of each volume, by id, where they are read in place: no guest ran. @default there are copies */
  stamps?: Record<string, string>;
};

export function createBackup(services: Services): OperationKind<'backup.create', CreatePlan> {
  const { store, repositories } = services;
  const stages = [[copy(services)], [write(services)], [removeCopies(services)]];
  const walk = {
    timeoutMs: () => BACKUP_TIMEOUT_MS,
    succeeded({ id, name }: CreatePlan, results: Readonly<Record<string, unknown>>) {
      const { backup } = results['write'] as { backup: Backup };
      store.events.append('backup.created', { kind: 'instance', id, name }, { backup });
    },
    undone: () => undefined,
  };
  return {
    ...walk,
    method: 'backup.create',
    version: 3,
    stages: [...stages, [forgetOlder(services)]],
    past: [
      { ...walk, version: 2, stages: [...stages, [forgetOlder(services)]] },
      { ...walk, version: 1, stages },
    ],
    accept({ id, store: storeName, full, bandwidthMibPerSecond, quiesce, ...fence }) {
      const { instance, target } = requestOf(services, 'back up', { id, ...fence });
      const disks = store.volumes.listOf(instance.id);
      assertKeptSecret(services, disks, storeName);
      const plan = {
        id: instance.id,
        name: instance.name,
        backupId: randomUUID(),
        store: repositories.nameOf(storeName),
        instance: withoutSecrets(instance.spec),
        nics: nicsOf(services, instance.id),
        quiesce,
        volumes: disks.map((volume) => plannedVolume(services, volume)),
        ...(full === true && { full }),
        ...(bandwidthMibPerSecond !== undefined && { bytesPerSecond: bandwidthMibPerSecond * MIB }),
      };
      return { verdict: 'run', target, plan };
    },
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

function isEncrypted({ volumes }: Pick<CreatePlan, 'volumes'>): boolean {
  return volumes.some(({ encryption = null }) => encryption !== null);
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

function quiesceOf({ id, quiesce = 'never' }: CreatePlan): QuiesceRequest {
  return { id, quiesce };
}

function copy(services: Services): Step<CreatePlan> {
  const { hypervisor, pools } = services;
  return {
    name: 'copy',
    async look(plan, { signal }) {
      await thawAfterCrash(services, quiesceOf(plan), signal);
      return null; // the moment of what a crash has left is not known
    },
    async act(plan, context) {
      const { signal } = context;
      for (const { id } of plan.volumes) await pools.holding(id).removeCopy(id, { signal });
      const running = await runs(services, plan.id, signal);
      const base = await baseOf(services, plan, running, signal);
      try {
        return await copyFrom(services, { plan, base, running }, context);
      } catch (error) {
        if ('full' in base || !(error instanceof AgentError) || error.code !== 'DATA_DAMAGED') throw error;
        for (const { id } of plan.volumes) await pools.holding(id).removeCopy(id, { signal });
        return copyFrom(services, { plan, base: because('bitmap-lost', error.message), running }, context);
      }
    },
    async undo(plan, { signal }) {
      const { id, backupId, volumes } = plan;
      await thawAfterCrash(services, quiesceOf(plan), signal);
      await hypervisor.stopCopy(id, { signal });
      await hypervisor.forgetCheckpoints(id, [checkpointOf(backupId)], { signal });
      for (const volume of volumes) await pools.holding(volume.id).removeCopy(volume.id, { signal });
    },
  };
}

async function baseOf(
  services: Services,
  plan: CreatePlan,
  running: boolean,
  signal: AbortSignal,
): Promise<Base> {
  const { id, store, volumes, full = false } = plan;
  if (full) return because('asked', 'A full backup was asked for');
  // A bitmap in an encrypted file can't be removed while no guest runs but by its key, and no chain is worth that.
  if (isEncrypted(plan)) return because('encrypted', 'Changes of encrypted disks are not kept');
  return chooseBase(services, { id, store, volumes, running }, signal);
}

/** @returns The base, to be journaled. */
async function copyFrom(
  services: Services,
  { plan, base, running }: { plan: CreatePlan; base: Base; running: boolean },
  context: ActContext,
): Promise<Copied> {
  if (!running) return { ...base, stamps: await stampsOf(services, plan, context.signal) };
  await assertRoom(services, { volumes: plan.volumes, base }, context.signal);
  return { ...base, consistent: await copyRunning(services, plan, base, context) };
}

async function copyRunning(
  services: Services,
  plan: CreatePlan,
  base: Base,
  { signal, onProgress }: ActContext,
): Promise<Consistency> {
  const { hypervisor, pools } = services;
  const { id, backupId, volumes, bytesPerSecond } = plan;
  const tell = (done: number, total: number | null) => onProgress(bytesProgress('copying', done, total));
  const options = { signal, timeoutMs: BACKUP_TIMEOUT_MS, onProgress: tell };
  const prepared = isEncrypted(plan);
  if (prepared) await prepareCopies(services, plan, signal);
  const copies = volumes.map((volume) => ({
    serial: serialOf(volume.id),
    path: pools.holding(volume.id).paths.volumeDelta(volume.id),
    ...keyed({ id: volume.id, encryption: volume.encryption ?? null }),
  }));
  const since = 'full' in base ? undefined : base.checkpoint;
  const checkpoint = prepared ? undefined : checkpointOf(backupId);
  const request = { copies, prepared, since, checkpoint, bytesPerSecond };
  const consistent = await copyQuiesced(services, quiesceOf(plan), signal, (onMoment) =>
    hypervisor.copyDisks(id, request, { ...options, onMoment }),
  );
  // Once the copy is journaled, it is gone on with after a loss of power, too.
  for (const { id: volumeId } of volumes) await pools.holding(volumeId).keepCopy(volumeId, { signal });
  return consistent;
}

async function stampsOf(
  { pools, store }: Services,
  { volumes }: CreatePlan,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const stamps = volumes.map(async ({ id }) => {
    const layer = store.layers.activeOf(id);
    return [id, await pools.holding(id).stampVolume(id, { signal, layer })] as const;
  });
  return Object.fromEntries(await Promise.all(stamps));
}

/** QEMU writes to files that are there, each encrypted as its volume is. */
async function prepareCopies(
  services: Services,
  { id, volumes }: CreatePlan,
  signal: AbortSignal,
): Promise<void> {
  const { pools, store } = services;
  await handOverKeys(services, store.volumes.listOf(id), signal);
  for (const { id: volumeId, sizeBytes, encryption = null } of volumes) {
    const copy = { copyId: volumeId, id: volumeId, sizeBytes, encryption };
    await pools.holding(volumeId).prepareCopy(copy, { signal });
  }
}

async function runs({ hypervisor }: Services, id: string, signal: AbortSignal): Promise<boolean> {
  const guest = await hypervisor.observeGuest(id, { signal });
  if (guest === null)
    throw new AgentError('ILLEGAL_STATE', 'The host has no guest of it; restore the instance first');
  return guest.power !== 'stopped' && guest.power !== 'crashed';
}

/** A full pool pauses the guests on it: so there has to be room in each for all that the copies in it can come to. */
async function assertRoom(
  { pools }: Services,
  { volumes, base }: { volumes: readonly PlannedVolume[]; base: Base },
  signal: AbortSignal,
): Promise<void> {
  for (const [pool, ofPool] of Map.groupBy(volumes, ({ id }) => pools.holding(id)))
    await assertRoomIn(pool, { volumes: ofPool, base }, signal);
}

/** What has changed is known of all disks together: each pool has to have room for it. */
async function assertRoomIn(
  pool: StoragePool,
  { volumes, base }: { volumes: readonly PlannedVolume[]; base: Base },
  signal: AbortSignal,
): Promise<void> {
  const [files, { availableBytes }] = await Promise.all([pool.list({ signal }), pool.capacity({ signal })]);
  const wholeBytes = volumes.reduce((sum, { id, sizeBytes, imageBytes }) => {
    const own = files.filter((file) => file.kind === 'volume' && file.id === id);
    const ownBytes = own.reduce((bytes, file) => bytes + file.sizeBytes, 0);
    return sum + Math.min(sizeBytes, ownBytes + ('full' in base ? imageBytes : 0));
  }, 0);
  const neededBytes = 'full' in base ? wholeBytes : Math.min(wholeBytes, base.changedBytes ?? wholeBytes);
  if (neededBytes <= availableBytes) return;
  throw new AgentError('CAPACITY_EXCEEDED', `Pool ${pool.name} has no room for a copy of the disks`, {
    details: { neededBytes, availableBytes },
    hint: 'Free some room in the pool, or back the instance up while it has fewer disks.',
  });
}

function write(services: Services): Step<CreatePlan> {
  const { repositories } = services;
  return {
    name: 'write',
    async look({ store, id, backupId }, { signal }) {
      const repository = await repositories.open(store);
      const manifest = await repository.manifest(id, backupId, { signal });
      return manifest === null ? null : { result: { backup: viewOf(store, manifest) } };
    },
    async act(plan, context) {
      const { signal, onProgress } = context;
      // Version 1 has no result: each was a full one.
      const base = context.results['copy'] as Copied | undefined;
      const repository = await repositories.open(plan.store);
      const totalBytes = bytesToRead(plan, base);
      const manifest = await repository.write(
        await requestFor(services, { plan, base, repository }, signal),
        {
          signal,
          onProgress: (keptBytes) => onProgress(bytesProgress('sending', keptBytes, totalBytes)),
        },
      );
      return { backup: viewOf(plan.store, manifest) };
    },
    undo: async ({ store, backupId }, { signal }) =>
      (await repositories.open(store)).abandon(backupId, { signal }),
  };
}

/** Null where it is not known. */
function bytesToRead({ volumes }: CreatePlan, base: Base | undefined): number | null {
  if (base !== undefined && !('full' in base)) return base.changedBytes;
  return volumes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

async function requestFor(
  services: Services,
  { plan, base, repository }: { plan: CreatePlan; base: Copied | undefined; repository: BackupRepository },
  signal: AbortSignal,
): Promise<BackupRequest> {
  const { id, backupId, instance, nics, volumes, bytesPerSecond } = plan;
  const isFull = base === undefined || 'full' in base;
  const pace = new Pace(services.clock, bytesPerSecond);
  return {
    id: backupId,
    instanceId: id,
    instance,
    parent: isFull ? null : await parentOf(repository, id, base.parentId, signal),
    full: isFull ? base?.full : undefined,
    nics,
    consistent: base?.consistent,
    volumes: volumes.map((planned) => {
      const {
        sizeBytes: virtualSizeBytes,
        image: _image,
        imageBytes: _bytes,
        encryption,
        ...volume
      } = planned;
      const kept = encryption == null ? {} : { encryption };
      const extents = pace.keep(extentsOf(services, planned, base, signal), signal);
      return { ...volume, ...kept, virtualSizeBytes, extents };
    }),
  };
}

function extentsOf(
  { pools, store }: Services,
  { id, image, encryption = null }: PlannedVolume,
  copied: Copied | undefined,
  signal: AbortSignal,
): AsyncIterable<DiskExtent> {
  const pool = pools.holding(id);
  const stamp = copied?.stamps?.[id];
  if (copied === undefined || stamp === undefined)
    return pool.readCopy(id, { signal, key: keyOf({ id, encryption }) });
  const since = 'full' in copied ? undefined : copied.checkpoint;
  const volume = { id, image, layers: store.layers.chainOf(id), encryption, since, stamp };
  return pool.readVolume(volume, { signal, timeoutMs: BACKUP_TIMEOUT_MS });
}

async function parentOf(repository: BackupRepository, instanceId: string, id: string, signal: AbortSignal) {
  const manifest = await repository.manifest(instanceId, id, { signal });
  if (manifest !== null) return manifest;
  throw new AgentError('NOT_FOUND', `Backup ${id}, which this one goes on from, was deleted meanwhile`, {
    hint: 'Back the instance up again: that makes a full one.',
  });
}

function removeCopies({ pools }: Services): Step<CreatePlan> {
  return {
    name: 'remove-copies',
    look: async () => null, // idempotent
    async act({ volumes }, { signal }) {
      for (const volume of volumes) await pools.holding(volume.id).removeCopy(volume.id, { signal });
    },
  };
}

/** The next backup goes on from this one, where it could make a checkpoint; else still from the one before. */
function forgetOlder(services: Services): Step<CreatePlan> {
  const { hypervisor } = services;
  return {
    name: 'forget-older',
    look: async () => null, // idempotent
    async act({ id, backupId }, { signal }) {
      if ((await hypervisor.observeGuest(id, { signal })) === null) return;
      const names = (await hypervisor.checkpoints(id, { signal })).map(({ name }) => name);
      const own = checkpointOf(backupId);
      if (!names.includes(own)) return;
      const older = names.filter((name) => name !== own);
      if (older.length > 0) await hypervisor.forgetCheckpoints(id, older, { signal });
    },
  };
}
