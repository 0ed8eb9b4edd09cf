/**
 * volume.create and volume.delete: volumes that outlive instances.
 */

import { timestamp } from '../../drivers/contracts/clock.ts';
import type { VolumeRequest } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { Volume } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import { readyImage } from '../instances/admit.ts';
import { volumeRequest } from '../instances/plan.ts';
import type { OperationKind } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { admitVolume, assertNameFree, forgetVolume } from './admit.ts';

interface CreatePlan {
  name: string;
  volume: VolumeRequest;
}

export function createVolume(services: Services): OperationKind<'volume.create', CreatePlan> {
  const { store, pool, clock } = services;
  return {
    method: 'volume.create',
    version: 1,
    stages: [
      [
        {
          name: 'make-volume',
          look: async ({ volume }, { signal }) =>
            (await pool.lookVolume(volume.id, { signal })) === null ? null : {},
          act: ({ volume }, { signal }) => pool.makeVolume(volume, { signal }),
          undo: ({ volume }, { signal }) => pool.removeVolume(volume.id, { signal }),
        },
      ],
    ],
    makes: ({ volume }) => [{ kind: 'volume', name: pool.paths.volume(volume.id) }],
    accept({ name, sizeGib, image: imageName, protected: isProtected = false }) {
      assertNameFree(services, name);
      const image = imageName === undefined ? null : readyImage(services, imageName);
      if (image !== null && sizeGib * GIB < image.virtualSizeBytes) {
        throw new AgentError(
          'INVALID_ARGUMENT',
          `A volume of ${sizeGib} GiB is smaller than image ${image.name}, which has ${Math.ceil(image.virtualSizeBytes / GIB)} GiB`,
        );
      }
      const imageId = image?.id ?? null;
      const { id } = admitVolume(services, { name, sizeGib, imageId, protected: isProtected });
      if (image !== null) store.images.touch(image.id, timestamp(clock));
      return {
        verdict: 'run',
        target: { kind: 'volume', id, name },
        plan: { name, volume: volumeRequest(store, store.volumes.get(id)) },
      };
    },
    succeeded({ name, volume: { id } }) {
      store.volumes.setState(id, 'ready');
      store.events.append('volume.created', { kind: 'volume', id, name }, { volume: store.volumes.get(id) });
    },
    undone: ({ volume: { id } }) => forgetVolume(services, id),
  };
}

export function deleteVolume({
  store,
  pool,
}: Services): OperationKind<'volume.delete', { id: string; name: string }> {
  return {
    method: 'volume.delete',
    version: 1,
    stages: [
      [
        {
          name: 'remove-file',
          look: async () => null,
          act: ({ id }, { signal }) => pool.removeVolume(id, { signal }),
        },
      ],
    ],
    removes: ({ id }) => [{ kind: 'volume', name: pool.paths.volume(id) }],
    accept(params) {
      const volume = store.volumes.get(params.id);
      if (volume.instanceId !== null)
        throw new AgentError('ILLEGAL_STATE', `Volume ${volume.name} is in use by an instance`, {
          hint: 'Delete that instance first.',
        });
      assertUnprotected([volume]);
      if (volume.state === 'creating')
        throw new AgentError('ILLEGAL_STATE', `Volume ${volume.name} is being made`, {
          hint: 'Cancel that operation instead.',
        });
      store.volumes.setState(volume.id, 'deleting');
      return {
        verdict: 'run',
        target: { kind: 'volume', id: volume.id, name: volume.name },
        plan: { id: volume.id, name: volume.name },
      };
    },
    succeeded({ id, name }) {
      store.allocations.remove(id);
      store.volumes.remove(id);
      store.events.append('volume.deleted', { kind: 'volume', id, name }, { id });
    },
    undone: () => undefined,
  };
}

/** @throws {AgentError} ILLEGAL_STATE */
export function assertUnprotected(volumes: readonly Volume[]): void {
  const kept = volumes.find((volume) => volume.protected);
  if (kept === undefined) return;
  throw new AgentError('ILLEGAL_STATE', `Volume ${kept.name} is protected from deletion`, {
    hint: 'Take that back first: berth volume configure --unprotect.',
  });
}
