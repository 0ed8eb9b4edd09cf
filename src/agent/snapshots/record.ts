/**
 * The record of an instance's snapshots in a shared pool, beside the volume that it boots from: what a node that takes the
 * instance over can't see in the files. What a layer stands on, its header says; which one is active, and what each
 * snapshot keeps, only the node knows that may be dead by then.
 *
 *   a layer is made      before: the record as it is, so that layers without one are never ours to guess about
 *                        after, and before any guest writes to it: it is the active one. It is empty, so until then
 *                        what is read of it is what is below
 *   a definition is written    before: as the store says
 *   a merge of the active layer of a running guest   before QEMU goes on with the file below: `pivoting`, since after
 *                        that the guest writes there, and this node alone hears of it; after: the file below
 *   a layer's file goes  after the record without it
 *
 * So whatever moment a node dies at, the record is right, or says that it does not know.
 */
import { Id, Name, nullable, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { DISKS_MAX } from '../../model/instance.ts';
import { parseJson } from '../../model/json.ts';
import { type Static, Type } from '../../model/schema.ts';
import { parse } from '../../model/validate.ts';
import { SNAPSHOTS_MAX } from '../../model/snapshot.ts';
import { GuestSnapshot } from '../instances/metadata.ts';
import type { Services } from '../services.ts';
import type { SnapshotRow } from '../store/snapshots.ts';

const SnapshotRecord = strict({
  version: Type.Literal(1),
  instanceId: Id,
  instance: Name,
  volumes: Type.Array(
    strict({
      id: Id,
      /** The layer that guests write to; null for the volume's own file. */
      active: nullable(Id),
      /** A running guest goes on with the file below it at about this moment. @default false */
      pivoting: Type.Optional(Type.Boolean()),
    }),
    { maxItems: DISKS_MAX },
  ),
  snapshots: Type.Array(GuestSnapshot, { maxItems: SNAPSHOTS_MAX }),
});
export type SnapshotRecord = Static<typeof SnapshotRecord>;

type Parts = Pick<Services, 'store' | 'pools'>;

interface RecordOptions {
  signal: AbortSignal;
  /** One that is being taken, and whose disks are switched. @default none */
  taken?: string;
  /** Whether it is written though there is nothing to record. @default false */
  begins?: boolean;
  /** The volume whose active layer is about to be left. @default none */
  pivoting?: string;
}

/** Writes it down as the store says; done where the instance boots from no shared pool, or has nothing to record. */
export async function recordSnapshots(
  { store, pools }: Parts,
  instanceId: string,
  { signal, taken, pivoting, begins = false }: RecordOptions,
): Promise<void> {
  const instance = store.instances.find(instanceId);
  const volumes = store.volumes.listOf(instanceId);
  const [boot] = volumes;
  if (instance === null || instance.disowned !== null || boot === undefined) return;
  const pool = pools.of(boot);
  if (!pool.isShared) return;
  const snapshots = store.snapshots
    .stayingOf(instanceId)
    .filter(({ id, state }) => state === 'ready' || id === taken)
    .map(carried);
  const isLayered = volumes.some(({ id }) => store.layers.of(id).layers.length > 0);
  const isNeeded = begins || isLayered || snapshots.length > 0;
  const record: SnapshotRecord = {
    version: 1,
    instanceId,
    instance: instance.name,
    volumes: volumes.map(({ id }) => ({
      id,
      active: store.layers.activeOf(id),
      ...(id === pivoting && { pivoting: true }),
    })),
    snapshots,
  };
  const place = { volumeId: boot.id, instanceId };
  await pool.writeSnapshotRecord(place, isNeeded ? `${JSON.stringify(record)}\n` : null, { signal });
}

/** @throws {AgentError} HOST_CONFLICT: it is not what a node would have written of this instance. */
export function readRecord(text: string, instanceId: string): SnapshotRecord {
  try {
    const record = parse(SnapshotRecord, parseJson(text), 'record of snapshots');
    if (record.instanceId === instanceId) return record;
  } catch (cause) {
    throw unreadable(instanceId, cause);
  }
  throw unreadable(instanceId, null);
}

function unreadable(instanceId: string, cause: unknown): AgentError {
  return new AgentError(
    'HOST_CONFLICT',
    `The record of the snapshots of instance ${instanceId} is no record of it`,
    {
      ...(cause !== null && { cause }),
      hint: 'Look who has written to the pool; make the instance again from a backup: backup.recreate.',
    },
  );
}

function carried({ instanceId: _instance, state: _state, nvramVolumeId, ...row }: SnapshotRow) {
  return { ...row, ...(nvramVolumeId !== null && { nvramVolumeId }) };
}
