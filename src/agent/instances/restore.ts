/**
 * instance.restore: defines the guest again as the store has it, where others have changed it.
 *
 * A guest that runs goes on as it is: what others have attached to it stays until its stop. Nothing is taken back, and
 * the instance's generation stays, since it is what it was meant to be all the time.
 */
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { type InstancePlan, planInstance } from './plan.ts';
import { requestOf } from './request.ts';
import { define } from './steps.ts';

export function restoreInstance(services: Services): OperationKind<'instance.restore', InstancePlan> {
  const { store, pool } = services;
  const { undo: _undefine, ...redefine } = define(services);
  return {
    method: 'instance.restore',
    version: 1,
    stages: [[redefine], [look(services)]],
    accept(params) {
      const { instance, target } = requestOf(services, 'restore', params);
      return { verdict: 'run', target, plan: planInstance(store, pool, instance) };
    },
    succeeded: () => undefined,
    undone: () => undefined,
  };
}

/** So that the store is true of the guest's power when the operation ends. */
function look({ observer }: Services): Step<InstancePlan> {
  return {
    name: 'look',
    look: async () => null,
    act: async ({ id }, { signal }) => void (await observer.refresh(id, { signal })),
  };
}
