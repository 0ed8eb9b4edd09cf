/**
 * share.attach and share.detach: shares as file systems of an instance, running or not.
 *
 * Both are operations on the instance, as for its disks. A guest can be given a share while it runs only if its memory
 * can be shared with the daemons of the host, which is so from its start or not at all: so a guest that was started
 * without any is left as it is, and whoever asks is told to stop it.
 */
import { isDeepStrictEqual } from 'node:util';
import type { GuestShare } from '../../drivers/contracts/hypervisor.ts';
import type { Instance } from '../../model/instance.ts';
import type { InstanceShare } from '../../model/share.ts';
import { guestShareOf, planInstance } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import { type Redefinition, redefine } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { askedShare, assertAttachable, assertSharesUsable } from './admit.ts';

/** Beyond what the guest is given to let go, ms. */
const SLACK_MS = 60_000;

interface SharePlan extends Redefinition {
  /** Of the instance. */
  id: string;
  share: { id: string; name: string };
  device: GuestShare;
}

interface DetachPlan extends SharePlan {
  timeoutMs: number;
}

export function attachShare(services: Services): OperationKind<'share.attach', SharePlan> {
  const { store } = services;
  return {
    method: 'share.attach',
    version: 1,
    stages: [[probe(services)], [redefine(services)], [plug(services)]],
    accept: ({ id, instance: instanceName, tag, access, ...fence }) => {
      const { instance, target } = requestOf(services, 'change shares of', { id: instanceName, ...fence });
      const share = store.shares.get(id);
      const asked = askedShare(share, { access, ...(tag !== undefined && { tag }) });
      const staying = store.shares.stayingOf(instance.id);
      if (staying.some((each) => isDeepStrictEqual(each, asked))) return { verdict: 'done', target };
      assertAttachable(services, { instance, share, asked });
      return { verdict: 'run', target, plan: writeAttached(services, instance, asked) };
    },
    succeeded: (plan) => tell(services, 'share.attached', plan),
    undone: ({ id, share }) => {
      store.shares.detach({ instanceId: id, shareId: share.id });
      store.tellInstance('instance.changed', id);
    },
  };
}

export function detachShare(services: Services): OperationKind<'share.detach', DetachPlan> {
  const { store, pool, pools } = services;
  return {
    method: 'share.detach',
    version: 1,
    timeoutMs: ({ timeoutMs }) => timeoutMs + SLACK_MS,
    stages: [[unplug(services)], [redefine(services)]],
    accept: ({ id, instance: instanceName, timeoutSeconds, ...fence }) => {
      const { id: shareId, name } = store.shares.get(id);
      const { instance, target } = requestOf(services, 'change shares of', { id: instanceName, ...fence });
      const share = instance.shares.find((each) => each.shareId === shareId);
      if (share === undefined) return { verdict: 'done', target };
      const { definition: previousDefinition } = planInstance(store, pools, instance);
      store.shares.setLeaving({ instanceId: instance.id, shareId }, true);
      noteChange(services, instance.id);
      const { definition } = planInstance(store, pools, store.instances.get(instance.id));
      const plan = { id: instance.id, share: { id: shareId, name }, device: guestShareOf(pool, share) };
      const timeoutMs = timeoutSeconds * 1000;
      return { verdict: 'run', target, plan: { ...plan, definition, previousDefinition, timeoutMs } };
    },
    succeeded: (plan) => {
      store.shares.detach({ instanceId: plan.id, shareId: plan.share.id });
      tell(services, 'share.detached', plan);
    },
    undone: ({ id, share }) => store.shares.setLeaving({ instanceId: id, shareId: share.id }, false),
  };
}

function writeAttached(services: Services, instance: Instance, asked: InstanceShare): SharePlan {
  const { store, pool, pools } = services;
  const { id } = instance;
  const { shareId, share: name, tag, access } = asked;
  const { definition: previousDefinition } = planInstance(store, pools, instance);
  store.shares.attach({ instanceId: id, shareId, tag, access });
  noteChange(services, id);
  const { definition } = planInstance(store, pools, store.instances.get(id));
  const device = guestShareOf(pool, asked);
  return { id, share: { id: shareId, name }, device, definition, previousDefinition };
}

function noteChange({ store }: Services, instanceId: string): void {
  store.instances.nextGeneration(instanceId);
  store.tellInstance('instance.changed', instanceId);
}

function probe(services: Services): Step<SharePlan> {
  return {
    name: 'probe',
    look: async () => null,
    act: (_plan, { signal }) => assertSharesUsable(services, { signal }),
  };
}

function plug({ hypervisor }: Services): Step<SharePlan> {
  return {
    name: 'plug',
    look: async () => null, // idempotent
    act: ({ id, device }, { signal }) => hypervisor.plugShare(id, device, { signal }),
    undo: ({ id, device }, { signal }) => hypervisor.unplugShare(id, device.tag, { signal }),
  };
}

function unplug({ hypervisor }: Services): Step<DetachPlan> {
  return {
    name: 'unplug',
    async look({ id, device }, { signal }) {
      const guest = await hypervisor.observeGuest(id, { signal });
      const hasIt = guest?.live?.shares?.some(({ tag }) => tag === device.tag) ?? false;
      return hasIt ? null : {};
    },
    act: ({ id, device, timeoutMs }, { signal }) =>
      hypervisor.unplugShare(id, device.tag, { signal, timeoutMs }),
    undo: ({ id, device }, { signal }) => hypervisor.plugShare(id, device, { signal }),
  };
}

function tell(
  { store }: Services,
  type: 'share.attached' | 'share.detached',
  { id, share: { id: shareId, name } }: SharePlan,
): void {
  store.tellInstance('instance.changed', id);
  const data = { instanceId: id, share: store.shares.get(shareId) };
  store.events.append(type, { kind: 'share', id: shareId, name }, data);
}
