/**
 * snapshot.merge: removes and merges what snapshots have left that nothing keeps any more, one file after the other.
 *
 *   merge ─▶ row ─▶ definition ─▶ file, until nothing is left
 *
 * The guest goes on. It gives way: where anything else waits for the instance, it ends, and is asked for again by
 * keeper.ts. It is never taken back, since what the disks hold is the same after each of its moves.
 */
import { AgentError } from '../../model/errors.ts';
import { requestOf } from '../instances/request.ts';
import { defineFromStore } from '../instances/steps.ts';
import type { OperationKind, Step, StepContext } from '../operations/kind.ts';
import { bytesProgress } from '../operations/progress.ts';
import type { Services } from '../services.ts';
import {
  assertClosed,
  assertOwnFiles,
  isMerged,
  type Merge,
  mergeLayer,
  nextOf,
  noteDone,
  type VolumeTidying,
} from './layers.ts';
import { recordSnapshots } from './record.ts';

/** The largest layers, to a slow disk, ms. */
const TIMEOUT_MS = 24 * 3600_000;

/** Of a look at the host after the end of an operation, ms. */
const LOOK_MS = 5_000;

interface MergePlan {
  /** Of the instance. */
  id: string;
  name: string;
  bytesPerSecond: number | null;
}

export function mergeSnapshots(services: Services): OperationKind<'snapshot.merge', MergePlan> {
  const { store } = services;
  return {
    method: 'snapshot.merge',
    version: 1,
    timeoutMs: () => TIMEOUT_MS,
    stages: [[merge(services)]],
    accept({ id, bandwidthMib, ...fence }) {
      const { instance, target } = requestOf(services, 'merge layers of', { id, ...fence });
      const isBusy = store.operations.unfinishedOn(target).length > 0;
      if (!isBusy && nextOf(store, instance.id) === null) return { verdict: 'done', target };
      const bytesPerSecond = bandwidthMib === undefined ? null : bandwidthMib * 1024 ** 2;
      return { verdict: 'run', target, plan: { id: instance.id, name: instance.name, bytesPerSecond } };
    },
    succeeded: () => undefined,
    undone: () => undefined,
  };
}

function merge(services: Services): Step<MergePlan> {
  const { store } = services;
  return {
    name: 'merge',
    look: async () => null, // each move looks by itself
    async act(plan, context) {
      await assertOwnFiles(services, plan.id, context.signal);
      const isWaitedFor = () => store.operations.unfinishedOn({ kind: 'instance', id: plan.id }).length > 1;
      for (let next = nextOf(store, plan.id); next !== null; next = nextOf(store, plan.id)) {
        if (isWaitedFor() || !(await move(services, { plan, next, isWaitedFor }, context))) return;
        noteDone(store, plan.id, next);
        await recordSnapshots(services, plan.id, context);
      }
    },
  };
}

interface Move {
  plan: MergePlan;
  next: VolumeTidying;
  /** Whether another operation waits for the instance. */
  isWaitedFor: () => boolean;
}

/** @returns false where it gave way. */
async function move(
  services: Services,
  { plan, next, isWaitedFor }: Move,
  context: StepContext,
): Promise<boolean> {
  const { volumeId, step } = next;
  if (step.do === 'remove') {
    await removeFile(services, plan.id, { volumeId, layer: step.layer }, context.signal);
    return true;
  }
  const giveWay = new AbortController();
  const onProgress = (done: number, total: number | null) => {
    context.onProgress(bytesProgress('merging', done, total));
    if (isWaitedFor()) giveWay.abort();
  };
  const { layer, into, children } = step;
  const request = { instanceId: plan.id, volumeId, layer, into, children };
  const limit = plan.bytesPerSecond === null ? {} : { bytesPerSecond: plan.bytesPerSecond };
  const signal = AbortSignal.any([context.signal, giveWay.signal]);
  try {
    await mergeLayer(services, { ...request, ...limit }, { signal, onProgress });
    return true;
  } catch (error) {
    // It may have been done at the moment at which it was given up; what can't be asked now, the next one sees.
    if (children.length === 0) await noteEnd(services, { plan, next, request });
    if (giveWay.signal.aborted && !context.signal.aborted && AgentError.from(error).code === 'CANCELLED')
      return false;
    throw error;
  }
}

/** What can't be asked stays as it was recorded: not known. */
async function noteEnd(
  services: Services,
  { plan, next, request }: Pick<Move, 'plan' | 'next'> & { request: Merge },
): Promise<void> {
  const signal = AbortSignal.timeout(LOOK_MS);
  const merged = await isMerged(services, request, signal).catch(() => null);
  if (merged === true) noteDone(services.store, plan.id, next);
  if (merged !== null) await recordSnapshots(services, plan.id, { signal });
}

/** The definition of a guest that is down may still name the file. */
async function removeFile(
  services: Services,
  instanceId: string,
  { volumeId, layer }: { volumeId: string; layer: string },
  signal: AbortSignal,
): Promise<void> {
  await assertClosed(services, { instanceId, volumeId, layer }, signal);
  await defineFromStore(services, instanceId, signal);
  await services.pools.holding(volumeId).removeLayer(volumeId, layer, { signal });
}
