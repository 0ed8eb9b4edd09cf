/**
 * instance.restore: defines the guest again as the store has it, where others have changed it, and starts or resumes one
 * that they have stopped or paused.
 *
 * A guest that runs goes on as it is: what others have attached to it stays until its stop. Nothing is taken back, and
 * the instance's generation stays, since it is what it was meant to be all the time.
 */
import type { RestoreScope } from '../../model/drift.ts';
import type { Instance } from '../../model/instance.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import { restorable } from '../reconcile/drift.ts';
import type { Services } from '../services.ts';
import { type InstancePlan, planInstance } from './plan.ts';
import { requestOf } from './request.ts';
import { bindPorts, define, look, startExisting } from './steps.ts';

interface RestorePlan extends InstancePlan {
  /** `keep`: its power is as it is to be, or not to be changed. */
  power: 'start' | 'keep';
}

export function restoreInstance(services: Services): OperationKind<'instance.restore', RestorePlan> {
  const { store, pools } = services;
  const { undo: _undefine, ...redefine } = define(services);
  const { undo: _unbind, ...rebind } = bindPorts(services);
  const ends = { succeeded: () => undefined, undone: () => undefined };
  return {
    method: 'instance.restore',
    version: 2,
    // Version 1 changed no power.
    past: [{ version: 1, stages: [[redefine], [look(services)]], ...ends }],
    stages: [
      [whereStarted(services, rebind), redefine],
      [whereStarted(services, startExisting(services))],
      [look(services)],
    ],
    accept({ scope, ...params }) {
      const { instance, target } = requestOf(services, 'restore', params);
      const plan = { ...planInstance(store, pools, instance), power: powerFor(instance, scope) };
      return { verdict: 'run', target, plan };
    },
    ...ends,
  };
}

function powerFor({ drift, disowned }: Instance, scope: RestoreScope): RestorePlan['power'] {
  if (scope === 'definition' || disowned !== null) return 'keep';
  return restorable(drift).power.length > 0 ? 'start' : 'keep';
}

/** The same step, for those only that are started: as long as the host says that nothing but a request keeps them. */
function whereStarted({ hypervisor }: Services, step: Step<InstancePlan>): Step<RestorePlan> {
  return {
    ...step,
    async act(plan, context) {
      if (plan.power === 'keep') return;
      const guest = await hypervisor.observeGuest(plan.id, { signal: context.signal });
      if (guest?.byRequest) await step.act(plan, context);
    },
  };
}
