/**
 * volume.create and volume.delete: volumes that outlive instances.
 */

import { timestamp } from '../../drivers/contracts/clock.ts';
import type { ProgressListener, ProgressPhase } from '../../drivers/contracts/calls.ts';
import type { DiskExtent, DiskSink } from '../../drivers/contracts/extents.ts';
import type { StoragePool, VolumeChain, VolumeRequest } from '../../drivers/contracts/storage.ts';
import type { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import { readyImage } from '../instances/admit.ts';
import { volumeRequest } from '../instances/plan.ts';
import type { ActContext, OperationKind, Step } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import { isMade, makeVolume, namesOf, needsCopy, noteWhole, type PlannedVolume } from '../pools/images.ts';
import type { InPool } from '../pools/pools.ts';
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
  volume: PlannedVolume;
  /** The volume that it is a copy of. @default none */
  from?: Pick<PlannedVolume, 'id' | 'image' | 'pool' | 'encryption'> & {
    /** The snapshot at which it is copied. @default none, as it is */
    snapshotId?: string;
  };
}

export function createVolume(services: Services): OperationKind<'volume.create', CreatePlan> {
  const { store } = services;
  const walk = {
    stages: [[make(services)]],
    timeoutMs: ({ from, volume }: CreatePlan) =>
      from === undefined && !needsCopy(volume) ? MAKE_TIMEOUT_MS : COPY_TIMEOUT_MS,
    makes: (plan: CreatePlan) => namesOf(services.pools, plan.volume),
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
      pool,
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
      const { id } = admitVolume(services, { name, sizeGib, pool, imageId, ...attributes });
      const volume = volumeRequest(store, store.volumes.get(id));
      const plan = { name, volume, ...(from !== null && { from }) };
      return { verdict: 'run', target: { kind: 'volume', id, name }, plan };
    },
  };
}

function isSamePool({ pool: one = DEFAULT_POOL }: InPool, { pool: other = DEFAULT_POOL }: InPool): boolean {
  return one === other;
}

function make(services: Services): Step<CreatePlan> {
  const { pools } = services;
  return {
    name: 'make-volume',
    // One that is a copy may be there, and what it was made from, too.
    look: async ({ volume, from }, { signal }) =>
      from === undefined && (await isMade(services, volume, { signal })) ? {} : null,
    async act({ volume, from }, context) {
      if (from === undefined) await makeVolume(services, volume, bringing(context));
      else await copy(services, { volume, from }, context);
    },
    record: ({ volume, from }) => from === undefined && noteWhole(services, [volume]),
    async undo({ volume, from }, { signal }) {
      await pools.of(volume).removeVolume(volume.id, { signal });
      if (from !== undefined) await pools.of(from).removeCopy(volume.id, { signal });
    },
  };
}

function bringing({ signal, onProgress }: ActContext) {
  return {
    signal,
    onProgress: (done: number, total: number | null, phase: ProgressPhase = 'copying') =>
      onProgress(bytesProgress(phase, done, total)),
  };
}

/** Within one pool blocks are shared, where its file system can; else all bytes go, from where they lie. */
async function copy(
  services: Services,
  { volume, from }: Required<Pick<CreatePlan, 'volume' | 'from'>>,
  { signal, onProgress }: ActContext,
): Promise<void> {
  const { pools, store } = services;
  const { id, image, snapshotId, encryption = null } = from;
  const layers = snapshotId === undefined ? store.layers.chainOf(id) : layersAt(store, id, snapshotId);
  const chain = { id, image, layers, ...(encryption !== null && { encryption }) };
  const { pool: _pool, ...request } = volume;
  const tell = (done: number, total: number | null) => onProgress(bytesProgress('copying', done, total));
  const options = { signal, timeoutMs: COPY_TIMEOUT_MS, onProgress: tell };
  if (isSamePool(volume, from)) await pools.of(volume).cloneVolume(request, chain, options);
  else await copyOver({ request, chain, source: pools.of(from), to: pools.of(volume) }, options);
  await pools.of(from).removeCopy(volume.id, { signal }); // of one that an older version has begun
}

async function copyOver(
  {
    request,
    chain,
    source,
    to,
  }: Record<'source' | 'to', StoragePool> & {
    request: VolumeRequest;
    chain: VolumeChain;
  },
  { signal, timeoutMs, onProgress }: { signal: AbortSignal; timeoutMs: number; onProgress: ProgressListener },
): Promise<void> {
  const fill = (sink: DiskSink) =>
    writeTo(sink, source.readVolume(chain, { signal, timeoutMs }), (done) =>
      onProgress(done, request.sizeBytes),
    );
  await to.restoreVolume(request, fill, { signal, timeoutMs });
}

/** @param tell Told how far it has come, in bytes of the disk. */
async function writeTo(
  sink: DiskSink,
  extents: AsyncIterable<DiskExtent>,
  tell: (doneBytes: number) => void,
): Promise<void> {
  for await (const extent of extents) {
    if (extent.type === 'data') await sink.write(extent.offset, extent.data);
    else await sink.zero(extent.offset, extent.length);
    tell(extent.offset + (extent.type === 'data' ? extent.data.length : extent.length));
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
  const { id, image, pool = DEFAULT_POOL, encryption = null } = volumeRequest(store, source);
  const from = { id, image, pool, ...(encryption !== null && { encryption }) };
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

interface DeletePlan extends InPool {
  id: string;
  name: string;
  /** Whether its bytes are to be overwritten by the wiper. */
  wipe: boolean;
  /** @default null, it is not encrypted */
  encryption?: Encryption | null;
}

export function deleteVolume(services: Services): OperationKind<'volume.delete', DeletePlan> {
  const { store, pools } = services;
  const walk = {
    stages: [[removeFile(services)]],
    removes: (plan: DeletePlan) => [
      { kind: 'volume', name: pools.of(plan).paths.volume(plan.id) } as const,
      ...secretsOf([plan]),
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
      const { id, name, pool, encryption } = volume;
      const kept = encryption === null ? {} : { encryption };
      return {
        verdict: 'run',
        target: { kind: 'volume', id, name },
        plan: { id, name, pool, wipe: params.wipe === true, ...kept },
      };
    },
  };
}

function removeFile({ pools, hypervisor }: Services): Step<DeletePlan> {
  return {
    name: 'remove-file',
    look: async () => null, // idempotent
    async act(plan, { signal }) {
      const pool = pools.of(plan);
      await (plan.wipe === true
        ? pool.setVolumeAside(plan.id, { signal })
        : pool.removeVolume(plan.id, { signal }));
      if ((plan.encryption ?? null) !== null) await hypervisor.forgetKey(plan.id, { signal });
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
