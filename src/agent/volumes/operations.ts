/**
 * volume.create and volume.delete: volumes that outlive instances.
 */

import { timestamp } from '../../drivers/contracts/clock.ts';
import type { DiskExtent, DiskSink } from '../../drivers/contracts/extents.ts';
import type { VolumeRequest } from '../../drivers/contracts/storage.ts';
import type { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import type { Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import { readyImage } from '../instances/admit.ts';
import { volumeRequest } from '../instances/plan.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { layersAt, snapshotOf } from '../snapshots/layers.ts';
import { admitVolume, assertIdle, assertNameFree, forgetVolume } from './admit.ts';
import { knownEncryption, secretsOf } from './encryption.ts';

/** A file with nothing in it, on a busy disk, ms. */
const MAKE_TIMEOUT_MS = 15 * 60_000;
/** The largest volume, on a slow disk, ms. */
const COPY_TIMEOUT_MS = 6 * 3600_000;

interface CreatePlan {
  name: string;
  volume: VolumeRequest;
  /** The volume that it is a copy of. @default none */
  from?: Pick<VolumeRequest, 'id' | 'image' | 'encryption'> & {
    /** The snapshot at which it is copied. @default none, as it is */
    snapshotId?: string;
  };
}

export function createVolume(services: Services): OperationKind<'volume.create', CreatePlan> {
  const { store, pool } = services;
  const walk = {
    stages: [[makeVolume(services)]],
    timeoutMs: ({ from }: CreatePlan) => (from === undefined ? MAKE_TIMEOUT_MS : COPY_TIMEOUT_MS),
    makes: ({ volume }: CreatePlan) => [
      { kind: 'volume', name: pool.paths.volume(volume.id) } as const,
      ...secretsOf([volume]),
    ],
    succeeded({ name, volume: { id } }: CreatePlan) {
      store.volumes.setState(id, 'ready');
      store.events.append('volume.created', { kind: 'volume', id, name }, { volume: store.volumes.get(id) });
    },
    undone: ({ volume: { id } }: CreatePlan) => forgetVolume(services, id),
  };
  return {
    ...walk,
    method: 'volume.create',
    version: 2,
    // Version 1 knew no copies; its plans have no source.
    past: [{ ...walk, version: 1 }],
    accept({
      name,
      sizeGib,
      image: imageName,
      volume: sourceName,
      snapshot,
      protected: isProtected = false,
      encryption: asked,
    }) {
      if (imageName !== undefined && sourceName !== undefined)
        throw new AgentError('INVALID_ARGUMENT', 'A volume is made of an image, or of a volume; not of both');
      if (snapshot !== undefined && sourceName === undefined)
        throw new AgentError('INVALID_ARGUMENT', 'Say which volume of the snapshot is to be copied');
      assertNameFree(services, name);
      const from = sourceName === undefined ? null : copyable(services, { sourceName, snapshot, sizeGib });
      const imageId = imageName === undefined ? null : imageFor(services, imageName, sizeGib);
      const encryption = knownEncryption(services, asked === undefined ? from?.encryption : asked);
      const attributes = { protected: isProtected, encryption };
      const { id } = admitVolume(services, { name, sizeGib, imageId, ...attributes });
      const volume = volumeRequest(store, store.volumes.get(id));
      const plan = { name, volume, ...(from !== null && { from }) };
      return { verdict: 'run', target: { kind: 'volume', id, name }, plan };
    },
  };
}

function makeVolume({ pool, store }: Services): Step<CreatePlan> {
  return {
    name: 'make-volume',
    // One that is a copy may be there, and what it was made from, too.
    look: async ({ volume, from }, { signal }) =>
      from !== undefined || (await pool.lookVolume(volume.id, { signal })) === null ? null : {},
    async act({ volume, from }, { signal, onProgress }) {
      if (from === undefined) return pool.makeVolume(volume, { signal });
      if ((await pool.lookVolume(volume.id, { signal })) !== null)
        return pool.removeCopy(volume.id, { signal });
      const copyId = volume.id;
      const options = { signal, timeoutMs: COPY_TIMEOUT_MS };
      const { id, image, snapshotId, encryption = null } = from;
      const layers = snapshotId === undefined ? store.layers.chainOf(id) : layersAt(store, id, snapshotId);
      if (encryption !== null || (volume.encryption ?? null) !== null) {
        const tell = (done: number, total: number | null) =>
          onProgress(bytesProgress('copying', done, total));
        await pool.cloneVolume({ id, image, layers, encryption }, volume, { ...options, onProgress: tell });
        return;
      }
      const tell = (done: number, total: number | null) =>
        onProgress(bytesProgress('copying', done, total, [0, 2]));
      await pool.copyVolume({ id, image, layers, copyId }, { ...options, onProgress: tell });
      await pool.restoreVolume(volume, (sink) => writeTo(sink, pool.readCopy(copyId, { signal })), options);
      await pool.removeCopy(copyId, { signal });
    },
    undo: ({ volume }, { signal }) => pool.removeVolume(volume.id, { signal }),
  };
}

async function writeTo(sink: DiskSink, extents: AsyncIterable<DiskExtent>): Promise<void> {
  for await (const extent of extents) {
    if (extent.type === 'data') await sink.write(extent.offset, extent.data);
    else await sink.zero(extent.offset, extent.length);
  }
}

function imageFor(services: Services, nameOrId: string, sizeGib: number): string {
  const image = readyImage(services, nameOrId);
  const imageGib = Math.ceil(image.virtualSizeBytes / GIB);
  if (sizeGib < imageGib) throw tooSmall(sizeGib, `image ${image.name}`, imageGib);
  services.store.images.touch(image.id, timestamp(services.clock));
  return image.id;
}

function copyable(
  services: Services,
  { sourceName, snapshot, sizeGib }: { sourceName: string; snapshot: string | undefined; sizeGib: number },
): NonNullable<CreatePlan['from']> {
  const { store } = services;
  const source = store.volumes.get(sourceName);
  if (sizeGib < source.sizeGib) throw tooSmall(sizeGib, `volume ${source.name}`, source.sizeGib);
  const { id, image, encryption = null } = volumeRequest(store, source);
  const from = { id, image, ...(encryption !== null && { encryption }) };
  if (snapshot !== undefined) return { ...from, snapshotId: snapshotOf(store, source, snapshot).id };
  assertIdle(services, source);
  return from;
}

function tooSmall(sizeGib: number, what: string, hasGib: number): AgentError {
  return new AgentError(
    'INVALID_ARGUMENT',
    `A volume of ${sizeGib} GiB is smaller than ${what}, which has ${hasGib} GiB`,
  );
}

interface DeletePlan {
  id: string;
  name: string;
  /** Whether its bytes are to be overwritten by the wiper. */
  wipe: boolean;
  /** @default null, it is not encrypted */
  encryption?: Encryption | null;
}

export function deleteVolume(services: Services): OperationKind<'volume.delete', DeletePlan> {
  const { store, pool } = services;
  const walk = {
    stages: [[removeFile(services)]],
    removes: ({ id, encryption = null }: DeletePlan) => [
      { kind: 'volume', name: pool.paths.volume(id) } as const,
      ...secretsOf([{ id, encryption }]),
    ],
    succeeded({ id, name, wipe }: DeletePlan) {
      store.allocations.remove(id);
      store.volumes.remove(id);
      store.events.append('volume.deleted', { kind: 'volume', id, name }, { id, wipe: wipe === true });
    },
    undone: () => undefined,
  };
  return {
    ...walk,
    method: 'volume.delete',
    version: 2,
    // Version 1 wiped nothing; its plans do not say so.
    past: [{ ...walk, version: 1 }],
    accept(params) {
      const volume = store.volumes.get(params.id);
      assertDeletable(volume);
      store.volumes.setState(volume.id, 'deleting');
      const { id, name, encryption } = volume;
      const kept = encryption === null ? {} : { encryption };
      return {
        verdict: 'run',
        target: { kind: 'volume', id, name },
        plan: { id, name, wipe: params.wipe === true, ...kept },
      };
    },
  };
}

function removeFile({ pool, hypervisor }: Services): Step<DeletePlan> {
  return {
    name: 'remove-file',
    look: async () => null, // idempotent
    async act({ id, wipe, encryption = null }, { signal }) {
      await (wipe === true ? pool.setVolumeAside(id, { signal }) : pool.removeVolume(id, { signal }));
      if (encryption !== null) await hypervisor.forgetKey(id, { signal });
    },
  };
}

/** @throws {AgentError} ILLEGAL_STATE */
function assertDeletable(volume: Volume): void {
  const { name, instanceId, deletedWithInstance, state } = volume;
  if (instanceId !== null)
    throw new AgentError('ILLEGAL_STATE', `Volume ${name} is in use by an instance`, {
      hint: deletedWithInstance ? 'It goes with that instance.' : 'Detach it first: berth volume detach.',
    });
  assertUnprotected([volume]);
  if (state === 'creating')
    throw new AgentError('ILLEGAL_STATE', `Volume ${name} is being made`, {
      hint: 'Cancel that operation instead.',
    });
}

/** @throws {AgentError} ILLEGAL_STATE */
export function assertUnprotected(volumes: readonly Volume[]): void {
  const kept = volumes.find((volume) => volume.protected);
  if (kept === undefined) return;
  throw new AgentError('ILLEGAL_STATE', `Volume ${kept.name} is protected from deletion`, {
    hint: 'Take that back first: berth volume configure --unprotect.',
  });
}
