/**
 * share.attach and share.detach: shares as file systems of an instance, running or not.
 *
 * Both are operations on the instance, as for its disks. A guest can be given a share while it runs only if its memory
 * can be shared with the daemons of the host, which is so from its start or not at all: so a guest that was started
 * without any is left as it is, and whoever asks is told to stop it.
 */
import { isDeepStrictEqual } from 'node:util';
import type { GuestShare } from '../../drivers/contracts/hypervisor.ts';
import { AgentError } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import { type InstanceShare, MountTag, type Share, SHARES_MAX } from '../../model/share.ts';
import { findFault } from '../../model/validate.ts';
import { guestShareOf, planInstance } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import { type Redefinition, redefine } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';

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
      const asked = { shareId: share.id, share: share.name, tag: tag ?? share.name, access };
      const before = instance.shares.find(({ shareId }) => shareId === share.id);
      const staying = store.shares.stayingOf(instance.id);
      if (staying.some((each) => isDeepStrictEqual(each, asked))) return { verdict: 'done', target };
      assertAttachable(services, { instance, share, asked, before });
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

interface Attaching {
  instance: Instance;
  share: Share;
  asked: InstanceShare;
  /** How the instance has it already. */
  before: InstanceShare | undefined;
}

/** @throws {AgentError} ILLEGAL_STATE, ALREADY_EXISTS, LIMIT_REACHED, INVALID_ARGUMENT */
function assertAttachable({ store }: Services, { instance, share, asked, before }: Attaching): void {
  const what = `Cannot attach share ${share.name} to instance ${instance.name}`;
  if (share.state !== 'ready') throw new AgentError('ILLEGAL_STATE', `${what}: it is ${share.state}`);
  if (store.operations.unfinishedOn({ kind: 'share', id: share.id }).length > 0)
    throw new AgentError('ILLEGAL_STATE', `${what}: an operation on it is under way`);
  if (before !== undefined)
    throw new AgentError('ALREADY_EXISTS', `${what}: it has it as ${before.tag}, ${before.access}`, {
      hint: 'Detach it first, and wait until that is done.',
    });
  if (instance.shares.length >= SHARES_MAX)
    throw new AgentError('LIMIT_REACHED', `${what}: it has ${SHARES_MAX} shares already`, {
      hint: 'Detach one first.',
    });
  if (findFault(MountTag, asked.tag) !== null)
    throw new AgentError('INVALID_ARGUMENT', `${what}: its name is too long for a tag`, {
      hint: 'Give a tag.',
    });
  if (instance.shares.some(({ tag }) => tag === asked.tag))
    throw new AgentError('ALREADY_EXISTS', `${what}: it has another share with the tag ${asked.tag}`, {
      hint: 'Choose another tag.',
    });
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

/** Before the definition has it: a guest that has one and can't be given it does not start any more. */
function probe({ hypervisor }: Services): Step<SharePlan> {
  return {
    name: 'probe',
    look: async () => null,
    async act(_plan, { signal }) {
      const { shares } = await hypervisor.facts({ signal });
      if (shares === undefined || shares.usable) return;
      throw new AgentError('UNSUPPORTED', `This host can't give guests shares: ${shares.reason}`, {
        hint: 'See `berth doctor`.',
      });
    },
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
