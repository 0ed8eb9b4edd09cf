/**
 * instance.configure: changes the policies of an instance, and takes one back that was disowned.
 *
 * The change is in the store when it is accepted, so that the next command sees it, and then goes into the definition
 * on the host; a guest that runs is not touched by that. Where the host refuses, both are as they were.
 */
import type { Params } from '../../model/methods.ts';
import { changedPolicies, type Policies } from '../../model/policy.ts';
import type { Instance } from '../../model/instance.ts';
import type { OperationKind } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { planInstance } from './plan.ts';
import { requestOf } from './request.ts';
import { type Redefinition, redefine } from './steps.ts';

interface ConfigurePlan extends Redefinition {
  id: string;
  before: Policies;
  after: Policies;
}

export function configureInstance(services: Services): OperationKind<'instance.configure', ConfigurePlan> {
  return {
    method: 'instance.configure',
    version: 1,
    stages: [[redefine(services)]],
    accept(params) {
      const { instance, target } = requestOf(services, 'configure', params);
      if (!changes(instance, params)) return { verdict: 'done', target };
      return { verdict: 'run', target, plan: write(services, instance, params) };
    },
    succeeded: () => undefined,
    undone: (plan) => takeBack(services, plan),
  };
}

function changes({ spec, disowned }: Instance, { policies = {}, ownership }: Params<'instance.configure'>) {
  if (ownership === 'take-back' && disowned !== null) return true;
  return !isSame(changedPolicies(spec.policies, policies), spec.policies);
}

function write(
  { store, pools }: Services,
  instance: Instance,
  { policies = {}, ownership }: Params<'instance.configure'>,
): ConfigurePlan {
  const { id, spec } = instance;
  const after = changedPolicies(spec.policies, policies);
  const { definition: previousDefinition } = planInstance(store, pools, instance);
  store.instances.setPolicies(id, after);
  if (ownership === 'take-back') store.instances.setDisowned(id, null);
  store.instances.nextGeneration(id);
  store.tellInstance('instance.changed', id);
  const { definition } = planInstance(store, pools, store.instances.get(id));
  return { id, before: spec.policies, after, definition, previousDefinition };
}

/** What a later command has made of the policies stays. */
function takeBack({ store }: Services, { id, before, after }: ConfigurePlan): void {
  const instance = store.instances.find(id);
  if (instance === null || !isSame(instance.spec.policies, after)) return;
  store.instances.setPolicies(id, before);
  store.tellInstance('instance.changed', id);
}

function isSame(a: Policies, b: Policies): boolean {
  return (
    a.onBoot === b.onBoot &&
    a.onDrift === b.onDrift &&
    a.onCrash.action === b.onCrash.action &&
    a.onCrash.limit === b.onCrash.limit
  );
}
