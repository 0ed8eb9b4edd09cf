/**
 * image.import and image.upload: an image from a source that the agent fetches, or from bytes that a caller sends.
 */
import { randomUUID } from 'node:crypto';
import type { ProgressPhase } from '../../drivers/contracts/calls.ts';
import { timestamp } from '../../drivers/contracts/clock.ts';
import { type ImageFacts, type ImageRequest, UPLOAD_SOURCE } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { Params } from '../../model/methods.ts';
import { keptFormat } from '../../model/storage.ts';
import type { Accepted, OperationKind, Step, Walk } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';

/** An import moves the whole image; over a slow line that takes its time, ms. */
const IMPORT_TIMEOUT_MS = 6 * 3600 * 1000;

/** A source that can't be reached for longer is as likely a wrong address as a short trouble, ms. */
const SOURCE_PATIENCE_MS = 60_000;

/** As the repository names them. @see ../backups/repository.ts */
const OF_BACKUPS = /^s3:\/\/[^/]*\/backups\//;

interface ImportPlan extends ImageRequest {
  name: string;
}

interface UploadPlan extends ImportPlan {
  sizeBytes: number;
}

export function importImage(services: Services): OperationKind<'image.import', ImportPlan> {
  const walk = walkOf<ImportPlan>(services, [[fetchAndCheck(services)]]);
  return {
    ...walk,
    method: 'image.import',
    version: 2,
    // Version 1 knew fewer things of an image; its plans have none of them.
    past: [{ ...walk, version: 1 }],
    accept: ({ source, mirrors, signature, ...params }) => {
      const from = { source, mirrors, signature: signature ?? null };
      for (const place of [source, ...mirrors, ...(signature === undefined ? [] : [signature])])
        assertNoBackup(place);
      return admit(services, params, (common) => ({ ...common, ...from }));
    },
  };
}

export function uploadImage(services: Services): OperationKind<'image.upload', UploadPlan> {
  return {
    ...walkOf<UploadPlan>(services, [[receive(services)], [fetchAndCheck(services)]]),
    method: 'image.upload',
    version: 1,
    accept: ({ sizeBytes, ...params }) =>
      admit(services, params, (common) => ({ ...common, source: UPLOAD_SOURCE, sizeBytes })),
  };
}

function walkOf<P extends ImportPlan>(
  { store, pool, clock }: Services,
  stages: readonly (readonly Step<P>[])[],
): Omit<Walk<P>, 'version'> {
  return {
    timeoutMs: () => IMPORT_TIMEOUT_MS,
    stages,
    makes: ({ id, format }) => [{ kind: 'image', name: pool.paths.image(id, keptFormat(format)) }],
    succeeded({ id, name }, results) {
      store.images.setReady(id, results['fetch-and-check'] as ImageFacts, timestamp(clock));
      store.events.append('image.created', { kind: 'image', id, name }, { image: store.images.get(id) });
    },
    undone: ({ id }) => store.images.remove(id),
  };
}

/** What is kept of guests' disks is no image, whoever asks. @throws {AgentError} PERMISSION_DENIED */
function assertNoBackup(place: string): void {
  if (!OF_BACKUPS.test(place)) return;
  throw new AgentError('PERMISSION_DENIED', 'Backups are no images', {
    hint: 'Restore one with `berth backup restore`.',
  });
}

type CommonParams = Omit<Params<'image.upload'>, 'sizeBytes' | 'key' | 'epoch'>;
type CommonPlan = Omit<ImportPlan, 'source'>;

function admit<P extends ImportPlan>(
  { store, pool, clock }: Services,
  { name, format, compression, sha256, sha512, disk, pinned }: CommonParams,
  planOf: (common: CommonPlan) => P,
): Accepted<P> {
  if (store.images.find(name) !== null) throw nameTaken(name);
  const id = randomUUID();
  store.images.insert({
    id,
    name,
    pool: pool.name,
    format: keptFormat(format),
    sourceFormat: format,
    sha256: null,
    fileSha256: null,
    sizeBytes: 0,
    virtualSizeBytes: 0,
    state: 'importing',
    damage: null,
    pinned,
    hardware: null,
    createdAt: timestamp(clock),
    lastUsedAt: null,
    verifiedAt: null,
  });
  const plan = { id, name, format, compression, sha256: sha256 ?? null, sha512: sha512 ?? null, disk };
  return { verdict: 'run', target: { kind: 'image', id, name }, plan: planOf(plan) };
}

/** Waits until the caller has sent all bytes; what came is on the disk, so a crash loses none of them. */
function receive({ pool, uploads }: Services): Step<UploadPlan> {
  return {
    name: 'receive',
    look: async ({ id, sizeBytes }, { signal }) =>
      (await pool.lookUpload(id, { signal })) === sizeBytes ? {} : null,
    act: ({ id, sizeBytes }, { signal, onProgress }) =>
      uploads.receive(id, sizeBytes, {
        signal,
        onProgress: (done) => onProgress(bytesProgress('receiving', done, sizeBytes)),
      }),
    undo: ({ id, format }, { signal }) => pool.removeImage(id, keptFormat(format), { signal }),
  };
}

function fetchAndCheck({ pool }: Services): Step<ImportPlan> {
  return {
    name: 'fetch-and-check',
    retryForMs: SOURCE_PATIENCE_MS,
    async look({ id, format }, { signal }) {
      const facts = await pool.lookImage(id, keptFormat(format), { signal });
      return facts === null ? null : { result: facts };
    },
    act: (plan, { signal, onProgress }) =>
      pool.makeImage(plan, {
        signal,
        timeoutMs: IMPORT_TIMEOUT_MS,
        onProgress: (done, total, phase = 'fetching') =>
          onProgress(bytesProgress(phase, done, total, placeOf(plan, phase))),
      }),
    undo: ({ id, format }, { signal }) => pool.removeImage(id, keptFormat(format), { signal }),
  };
}

/** Which of how many phases of this import it is. */
function placeOf({ format, compression = 'none' }: ImportPlan, phase: ProgressPhase): [number, number] {
  const phases: ProgressPhase[] = [
    'fetching',
    ...(compression === 'none' ? [] : (['unpacking'] as const)),
    ...(keptFormat(format) === format ? [] : (['converting'] as const)),
  ];
  return [Math.max(0, phases.indexOf(phase)), phases.length];
}

function nameTaken(name: string): AgentError {
  return new AgentError('ALREADY_EXISTS', `There is an image ${name} on this node already`, {
    hint: 'Choose another name, or delete that one first.',
  });
}
