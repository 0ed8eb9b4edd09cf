/**
 * What every request to an existing instance goes through: it exists, the caller has seen its latest
 * generation, and the request is legal in its state.
 */
import { AgentError } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import { decide, type Request } from '../../model/lifecycle.ts';
import { checkGeneration } from '../operations/fence.ts';
import type { Target } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import type { Store } from '../store/store.ts';

export interface AcceptedRequest {
  verdict: 'accept' | 'done';
  instance: Instance;
  target: Target;
}

/**
 * What is done already is so only while nothing waits or runs that may change it again; else it is queued behind that.
 *
 * @throws {AgentError} NOT_FOUND, STALE, ILLEGAL_STATE, UNAVAILABLE
 */
export function requestOf(
  { store }: Services,
  request: Request,
  params: { id: string; generation?: number },
): AcceptedRequest {
  const instance = store.instances.get(params.id);
  checkGeneration(params.generation, instance);
  const decision = decide(request, instance);
  if (decision.verdict === 'refuse') {
    throw new AgentError(decision.code, `Cannot ${request} instance ${instance.name}: ${decision.reason}`, {
      details: { lifecycle: instance.lifecycle, power: instance.power, generation: instance.generation },
    });
  }
  return {
    verdict: decision.verdict === 'done' && isBusy(store, instance.id) ? 'accept' : decision.verdict,
    instance,
    target: { kind: 'instance', id: instance.id, name: instance.name },
  };
}

function isBusy(store: Store, id: string): boolean {
  return store.operations.unfinishedOn({ kind: 'instance', id }).length > 0;
}
