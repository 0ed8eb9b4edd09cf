/**
 * volume.export: a volume as one file on the host, for somewhere else.
 */
import type { ExportFacts, VolumeExport } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { Volume } from '../../model/storage.ts';
import type { OperationKind } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import { assertIdle } from './admit.ts';

/** The largest volume, to a slow disk, ms. */
const EXPORT_TIMEOUT_MS = 6 * 3600 * 1000;

interface ExportPlan extends VolumeExport {
  name: string;
}

export function exportVolume(services: Services): OperationKind<'volume.export', ExportPlan> {
  const { store, pools } = services;
  return {
    method: 'volume.export',
    version: 1,
    timeoutMs: () => EXPORT_TIMEOUT_MS,
    stages: [
      [
        {
          name: 'write',
          async look(plan, { signal }) {
            const facts = await pools.holding(plan.volumeId).lookExport(plan, { signal });
            return facts === null ? null : { result: facts };
          },
          act: (plan, { signal, onProgress }) =>
            pools.holding(plan.volumeId).exportVolume(
              { ...plan, layers: store.layers.chainOf(plan.volumeId) },
              {
                signal,
                timeoutMs: EXPORT_TIMEOUT_MS,
                onProgress: (done, total, phase = 'writing') => onProgress(bytesProgress(phase, done, total)),
              },
            ),
          undo: (plan, { signal }) => pools.holding(plan.volumeId).removeExport(plan, { signal }),
        },
      ],
      [
        {
          name: 'finish',
          look: async () => null,
          act: (plan, { signal }) => pools.holding(plan.volumeId).finishExport(plan, { signal }),
        },
      ],
    ],
    accept({ id, path, format, decrypt = false }) {
      const volume = store.volumes.get(id);
      assertIdle(services, volume);
      assertMayLeave(volume, decrypt);
      const image = volume.imageId === null ? null : store.images.get(volume.imageId);
      return {
        verdict: 'run',
        target: { kind: 'volume', id: volume.id, name: volume.name },
        plan: {
          name: volume.name,
          volumeId: volume.id,
          image: image === null ? null : { id: image.id, format: image.format },
          format,
          path,
          ...(volume.encryption !== null && { encryption: volume.encryption }),
        },
      };
    },
    succeeded({ volumeId: id, name, path, format }, results) {
      const facts = results['write'] as ExportFacts;
      store.events.append('volume.exported', { kind: 'volume', id, name }, { path, format, ...facts });
    },
    undone: () => undefined,
  };
}

/** Nothing that is encrypted is written in clear unless that is said. @throws {AgentError} ILLEGAL_STATE */
function assertMayLeave({ name, encryption }: Volume, decrypt: boolean): void {
  if (encryption === null || decrypt) return;
  throw new AgentError('ILLEGAL_STATE', `Volume ${name} is encrypted, and an export of it is in clear`, {
    hint: 'Say that it is meant: berth volume export --decrypt. Or back its instance up, which is encrypted.',
  });
}
