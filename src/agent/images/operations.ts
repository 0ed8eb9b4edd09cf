/**
 * image.import and image.delete.
 */
import { randomUUID } from 'node:crypto';
import { timestamp } from '../../drivers/contracts/clock.ts';
import type { ImageFacts, ImageRequest } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { StepProgress } from '../../model/operation.ts';
import type { ImageFormat } from '../../model/storage.ts';
import type { OperationKind } from '../operations/kind.ts';
import type { Services } from '../services.ts';

/** An import moves the whole image; over a slow line that takes its time, ms. */
const IMPORT_TIMEOUT_MS = 6 * 3600 * 1000;

/** A source that can't be reached for longer is as likely a wrong address as a short trouble, ms. */
const SOURCE_PATIENCE_MS = 60_000;

interface ImportPlan extends ImageRequest {
  name: string;
}

export function importImage({ store, pool, clock }: Services): OperationKind<'image.import', ImportPlan> {
  return {
    method: 'image.import',
    version: 1,
    timeoutMs: () => IMPORT_TIMEOUT_MS,
    stages: [
      [
        {
          name: 'fetch-and-check',
          retryForMs: SOURCE_PATIENCE_MS,
          async look({ id, format }, { signal }) {
            const facts = await pool.lookImage(id, format, { signal });
            return facts === null ? null : { result: facts };
          },
          act: (plan, { signal, onProgress }) =>
            pool.makeImage(plan, {
              signal,
              timeoutMs: IMPORT_TIMEOUT_MS,
              onProgress: (done, total) => onProgress(copied(done, total)),
            }),
          undo: ({ id, format }, { signal }) => pool.removeImage(id, format, { signal }),
        },
      ],
    ],
    makes: ({ id, format }) => [{ kind: 'image', name: pool.paths.image(id, format) }],
    accept({ name, source, format, sha256 }) {
      if (store.images.find(name) !== null) throw nameTaken(name);
      const id = randomUUID();
      const createdAt = timestamp(clock);
      store.images.insert({
        id,
        name,
        pool: pool.name,
        format,
        sha256: null,
        sizeBytes: 0,
        virtualSizeBytes: 0,
        state: 'importing',
        createdAt,
      });
      return {
        verdict: 'run',
        target: { kind: 'image', id, name },
        plan: { id, name, source, format, sha256: sha256 ?? null },
      };
    },
    succeeded({ id, name }, results) {
      store.images.setReady(id, results['fetch-and-check'] as ImageFacts);
      store.events.append('image.created', { kind: 'image', id, name }, { image: store.images.get(id) });
    },
    undone: ({ id }) => store.images.remove(id),
  };
}

interface DeletePlan {
  id: string;
  name: string;
  format: ImageFormat;
}

export function deleteImage({ store, pool }: Services): OperationKind<'image.delete', DeletePlan> {
  return {
    method: 'image.delete',
    version: 1,
    stages: [
      [
        {
          name: 'remove-files',
          look: async () => null,
          act: ({ id, format }, { signal }) => pool.removeImage(id, format, { signal }),
        },
      ],
    ],
    removes: ({ id, format }) => [{ kind: 'image', name: pool.paths.image(id, format) }],
    accept(params) {
      const image = store.images.get(params.id);
      if (image.state === 'importing')
        throw new AgentError('ILLEGAL_STATE', `Image ${image.name} is being imported`, {
          hint: 'Cancel that operation instead.',
        });
      const volumes = store.volumes.countOn(image.id);
      if (volumes > 0)
        throw new AgentError('ILLEGAL_STATE', `${volumes} volumes stand on image ${image.name}`, {
          hint: 'Delete them first.',
        });
      store.images.setState(image.id, 'deleting');
      return {
        verdict: 'run',
        target: { kind: 'image', id: image.id, name: image.name },
        plan: { id: image.id, name: image.name, format: image.format },
      };
    },
    succeeded({ id, name }) {
      store.images.remove(id);
      store.events.append('image.deleted', { kind: 'image', id, name }, { id });
    },
    undone: () => undefined,
  };
}

function copied(done: number, total: number | null): StepProgress {
  return {
    percent: total === null ? 0 : Math.floor((100 * done) / Math.max(1, total)),
    phase: 'fetching',
    bytes: { done, total },
  };
}

function nameTaken(name: string): AgentError {
  return new AgentError('ALREADY_EXISTS', `There is an image ${name} on this node already`, {
    hint: 'Choose another name, or delete that one first.',
  });
}
