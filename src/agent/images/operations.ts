/**
 * image.verify, image.pin and image.delete.
 */
import { AgentError } from '../../model/errors.ts';
import type { Image, ImageFormat } from '../../model/storage.ts';
import type { OperationKind, Target } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { checkImage } from './check.ts';

/** The largest image, from a slow disk, ms. */
const VERIFY_TIMEOUT_MS = 4 * 3600 * 1000;

interface ImagePlan {
  id: string;
  name: string;
  format: ImageFormat;
}

interface DeletePlan extends ImagePlan {
  /** Pools beside the default one that have, or may have, a copy. @default none: plans of older versions do not say */
  copies?: string[];
}

export function verifyImage(services: Services): OperationKind<'image.verify', ImagePlan> {
  const { store } = services;
  return {
    method: 'image.verify',
    version: 1,
    timeoutMs: () => VERIFY_TIMEOUT_MS,
    stages: [
      [
        {
          name: 'check',
          look: async () => null,
          act: ({ id }, { signal, onProgress }) =>
            checkImage(services, store.images.get(id), {
              signal,
              timeoutMs: VERIFY_TIMEOUT_MS,
              depth: 'bytes',
              onProgress: (done, total) => onProgress(bytesProgress('checking', done, total)),
            }),
        },
      ],
    ],
    accept(params) {
      const image = settledImage(services, params.id);
      return { verdict: 'run', target: targetOf(image), plan: planOf(image) };
    },
    succeeded: () => undefined,
    undone: () => undefined,
  };
}

export function pinImage(services: Services): OperationKind<'image.pin', ImagePlan> {
  const { store } = services;
  return {
    method: 'image.pin',
    version: 1,
    stages: [],
    /** The row is all there is to change, so it is done when it is accepted. */
    accept({ id, pinned }) {
      const image = settledImage(services, id);
      const target = targetOf(image);
      if (image.pinned === pinned) return { verdict: 'done', target };
      store.images.setPinned(image.id, pinned);
      store.events.append('image.changed', target, { image: store.images.get(image.id) });
      return { verdict: 'done', target };
    },
    succeeded: () => undefined,
    undone: () => undefined,
  };
}

export function deleteImage(services: Services): OperationKind<'image.delete', DeletePlan> {
  const { store, pool, pools } = services;
  const poolsOf = ({ copies = [] }: DeletePlan) => [...copies.map((name) => pools.of({ pool: name })), pool];
  return {
    method: 'image.delete',
    version: 1,
    stages: [
      [
        {
          name: 'remove-files',
          look: async () => null,
          async act(plan, { signal }) {
            for (const each of poolsOf(plan)) await each.removeImage(plan.id, plan.format, { signal });
          },
        },
      ],
    ],
    removes: (plan) =>
      poolsOf(plan).map(({ paths }) => ({ kind: 'image', name: paths.image(plan.id, plan.format) })),
    accept(params) {
      const image = store.images.get(params.id);
      if (image.state === 'importing') throw beingImported(image);
      const volumes = store.volumes.countOn(image.id);
      if (volumes > 0)
        throw new AgentError('ILLEGAL_STATE', `${volumes} volumes stand on image ${image.name}`, {
          hint: 'Delete them first.',
        });
      store.images.setState(image.id, 'deleting');
      const plan = { ...planOf(image), copies: store.images.copiesOf(image.id) };
      return { verdict: 'run', target: targetOf(image), plan };
    },
    succeeded({ id, name }) {
      store.images.remove(id);
      store.events.append('image.deleted', { kind: 'image', id, name }, { id });
    },
    undone: () => undefined,
  };
}

/** An image that is neither being made nor being deleted. @throws {AgentError} NOT_FOUND, ILLEGAL_STATE */
function settledImage({ store }: Services, nameOrId: string): Image {
  const image = store.images.get(nameOrId);
  if (image.state === 'importing') throw beingImported(image);
  if (image.state !== 'deleting') return image;
  throw new AgentError('ILLEGAL_STATE', `Image ${image.name} is being deleted`);
}

function beingImported({ name }: Image): AgentError {
  return new AgentError('ILLEGAL_STATE', `Image ${name} is being imported`, {
    hint: 'Cancel that operation instead, or wait for its end.',
  });
}

function targetOf({ id, name }: Image): Target {
  return { kind: 'image', id, name };
}

function planOf({ id, name, format }: Image): ImagePlan {
  return { id, name, format };
}
