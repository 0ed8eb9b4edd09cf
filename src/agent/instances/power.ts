/**
 * instance.start, instance.stop and instance.reboot.
 */
import { AgentError } from '../../model/errors.ts';
import type { Instance, PowerState, RebootMode, StopMode } from '../../model/instance.ts';
import { type Asker, isPolicy } from '../../model/operation.ts';
import type { OperationKind, Step, StepContext } from '../operations/kind.ts';
import { recentStarts } from '../policies/decide.ts';
import type { Services } from '../services.ts';
import { NO_RESTARTS } from '../store/instances.ts';
import { type InstancePlan, planInstance } from './plan.ts';
import { requestOf } from './request.ts';
import { bindPorts, confirm, define, endGuest, startExisting } from './steps.ts';

/** A guest that boots may miss a request to shut down; it is asked again this often, ms. */
const ASK_AGAIN_MS = 5_000;
/** How much longer an operation may take than the time that is given to the guest, ms. */
const SLACK_MS = 60_000;
/** How long a forced stop may take to be seen, ms. */
const FORCED_TIMEOUT_MS = 30_000;

interface StopPlan {
  id: string;
  mode: StopMode;
  timeoutMs: number;
}

interface RebootPlan {
  id: string;
  mode: RebootMode;
  timeoutMs: number;
}

export function startInstance(services: Services): OperationKind<'instance.start', InstancePlan> {
  const { store, pools } = services;
  const { undo: _undefine, ...redefine } = define(services);
  const { undo: _unbind, ...rebind } = bindPorts(services);
  return {
    method: 'instance.start',
    version: 1,
    stages: [[rebind, redefine], [startExisting(services)], [confirm(services, ['running'])]],
    accept: (params, asker) => {
      const { instance, ...accepted } = acceptPower(services, 'start', params);
      wantRunning(services, instance, asker);
      return { ...accepted, plan: planInstance(store, pools, store.instances.get(instance.id)) };
    },
    succeeded: () => undefined,
    undone: () => undefined,
  };
}

export function stopInstance(services: Services): OperationKind<'instance.stop', StopPlan> {
  return {
    method: 'instance.stop',
    version: 1,
    stages: [[askToStop(services)], [pullPlug(services)], [confirm(services, ['stopped', 'crashed'])]],
    timeoutMs: ({ timeoutMs }) => timeoutMs + SLACK_MS,
    // What an undo waits for may be a guest that hangs.
    overtakes: ({ mode }) => mode === 'forced',
    accept: (params) => {
      const { instance, ...accepted } = acceptPower(services, 'stop', params);
      wantStopped(services, instance);
      return { ...accepted, plan: timedPlan(instance.id, params) };
    },
    succeeded: () => undefined,
    undone: () => undefined,
  };
}

export function rebootInstance(services: Services): OperationKind<'instance.reboot', RebootPlan> {
  return {
    method: 'instance.reboot',
    version: 1,
    stages: [[reboot(services)], [confirm(services, ['running'])]],
    timeoutMs: ({ timeoutMs }) => timeoutMs + SLACK_MS,
    accept: (params) => {
      const { instance, ...accepted } = acceptPower(services, 'reboot', params);
      return { ...accepted, plan: timedPlan(instance.id, params) };
    },
    succeeded: () => undefined,
    undone: () => undefined,
  };
}

/** Done already, or a new generation. @throws {AgentError} as requestOf */
function acceptPower(
  services: Services,
  request: 'start' | 'stop' | 'reboot',
  params: { id: string; generation?: number },
) {
  const { verdict, instance, target } = requestOf(services, request, params);
  if (verdict === 'accept') services.store.instances.nextGeneration(instance.id);
  return { verdict: verdict === 'accept' ? ('run' as const) : ('done' as const), instance, target };
}

/** A start by policy is held against its limit; anyone else's begins the count anew. */
function wantRunning({ store, clock }: Services, { id }: Instance, asker: Asker): void {
  const nowMs = clock.now();
  const restarts = store.instances.restartsOf(id);
  const timesMs = [...recentStarts(restarts.timesMs, nowMs), nowMs];
  store.instances.setDesired(id, 'running');
  store.instances.setRestarts(id, isPolicy(asker) ? { ...restarts, timesMs, nextAtMs: null } : NO_RESTARTS);
  store.tellInstance('instance.changed', id);
}

/** What was due by policy is due no more. */
function wantStopped({ store }: Services, { id }: Instance): void {
  store.instances.setDesired(id, 'stopped');
  store.instances.setRestarts(id, NO_RESTARTS);
  store.tellInstance('instance.changed', id);
}

function timedPlan<M>(id: string, { mode, timeoutSeconds }: { mode: M; timeoutSeconds: number }) {
  return { id, mode, timeoutMs: timeoutSeconds * 1000 };
}

/** Asks the guest, again and again, and waits; what follows a guest that does not listen is the mode's. */
function askToStop(services: Services): Step<StopPlan> {
  return {
    name: 'ask-guest',
    look: async () => null,
    async act({ id, mode, timeoutMs }, context) {
      if (mode === 'forced') return;
      try {
        await untilStopped(services, id, timeoutMs, context);
      } catch (error) {
        const late = AgentError.from(error).code === 'DEADLINE_EXCEEDED' && !context.signal.aborted;
        if (late && mode === 'graceful-then-forced') return;
        if (!late) throw error;
        throw new AgentError(
          'DEADLINE_EXCEEDED',
          `The guest did not shut down in ${timeoutMs / 1000} s; it still runs`,
          {
            hint: 'Give it more time, or use mode forced to pull the plug.',
          },
        );
      }
    },
  };
}

async function untilStopped(
  services: Services,
  id: string,
  timeoutMs: number,
  { signal }: StepContext,
): Promise<void> {
  const { observer } = services;
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const isStopped = observer.waitForPower(id, ['stopped', 'crashed'], { timeoutMs, signal: either });
  await askUntil(services, isStopped, () => ask(services, id, either)).finally(() => over.abort());
}

/**
 * Asks the guest, and again until it has done what it is asked for. The first request alone may fail: what a
 * later one meets is no news.
 */
async function askUntil(
  { clock }: Services,
  isDone: Promise<void>,
  request: () => Promise<void>,
): Promise<void> {
  let cancelTimer = clock.after(ASK_AGAIN_MS, askAgain);
  try {
    await Promise.all([isDone, request()]);
  } finally {
    cancelTimer();
  }

  function askAgain(): void {
    request().catch(() => undefined);
    cancelTimer = clock.after(ASK_AGAIN_MS, askAgain);
  }
}

/** A request that came too late for a guest that is down is no failure. */
async function ask({ hypervisor, observer }: Services, id: string, signal: AbortSignal): Promise<void> {
  try {
    await hypervisor.requestShutdown(id, { signal });
  } catch (error) {
    if (AgentError.from(error).code !== 'ILLEGAL_STATE') throw error;
    await observer.refresh(id, { signal });
  }
}

function pullPlug(services: Services): Step<StopPlan> {
  const { observer } = services;
  return {
    name: 'pull-plug',
    look: async () => null,
    async act({ id, mode }, { signal }) {
      if (mode === 'graceful') return;
      await endGuest(services, id, signal);
      await observer.refresh(id, { signal });
      await observer.waitForPower(id, ['stopped', 'crashed'], { timeoutMs: FORCED_TIMEOUT_MS, signal });
    },
  };
}

function reboot(services: Services): Step<RebootPlan> {
  const { hypervisor } = services;
  return {
    name: 'reboot',
    // A reboot that a crash has cut off may or may not have happened; asking again is what the caller wants.
    look: async () => null,
    async act({ id, mode, timeoutMs }, { signal }) {
      if (mode === 'forced') await hypervisor.reset(id, { signal });
      else await untilRebooted(services, id, timeoutMs, signal);
    },
  };
}

/** A guest that booted when it was asked has not heard it, so it is asked again. */
async function untilRebooted(
  services: Services,
  id: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { hypervisor, clock, store, observer } = services;
  const over = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const ends = [
    hypervisor.subscribe((event) => event.type === 'rebooted' && event.id === id && resolve()),
    observer.onPower((changed) => {
      const power = changed === id ? store.instances.find(id)?.power.state : undefined;
      if (power === 'stopped' || power === 'crashed') reject(wentDown(power));
    }),
    clock.after(timeoutMs, () => reject(notRebooted(timeoutMs))),
  ];
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const either = AbortSignal.any([signal, over.signal]);
  try {
    await askUntil(services, promise, () => hypervisor.requestReboot(id, { signal: either }));
  } finally {
    over.abort();
    for (const end of ends) end();
    signal.removeEventListener('abort', onAbort);
  }
}

function wentDown(power: PowerState): AgentError {
  return new AgentError('ILLEGAL_STATE', `The guest went down instead of rebooting: it is ${power}`, {
    hint: 'Start it.',
  });
}

function notRebooted(timeoutMs: number): AgentError {
  return new AgentError(
    'DEADLINE_EXCEEDED',
    `The guest did not reboot in ${timeoutMs / 1000} s; it still runs`,
    {
      hint: 'Give it more time, or use mode forced to reset it.',
    },
  );
}
