/**
 * Admission of a share to an instance: whether it can have it, and the row that says so.
 */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import { AgentError } from '../../model/errors.ts';
import { type InstanceShare, MountTag, type Share, type ShareSpec, SHARES_MAX } from '../../model/share.ts';
import { findFault } from '../../model/validate.ts';
import type { Services } from '../services.ts';

/** A share that an instance is to have, and those that it has. */
export interface Attaching {
  instance: { name: string; shares: readonly InstanceShare[] };
  share: Share;
  asked: InstanceShare;
}

/** As it would be attached. */
export function askedShare(
  { id, name }: Share,
  { tag, access }: Pick<ShareSpec, 'tag' | 'access'>,
): InstanceShare {
  return { shareId: id, share: name, tag: tag ?? name, access };
}

/** Rows of the shares of a new instance, in the order of its spec. @throws {AgentError} as assertAttachable, NOT_FOUND */
export function admitShares(
  services: Services,
  instance: { id: string; name: string },
  specs: readonly ShareSpec[],
): void {
  const { store } = services;
  for (const spec of specs) {
    const share = store.shares.get(spec.share);
    const asked = askedShare(share, spec);
    const shares = store.shares.listOf(instance.id);
    assertAttachable(services, { instance: { name: instance.name, shares }, share, asked });
    const { shareId, tag, access } = asked;
    store.shares.attach({ instanceId: instance.id, shareId, tag, access });
  }
}

/** @throws {AgentError} ILLEGAL_STATE, ALREADY_EXISTS, LIMIT_REACHED, INVALID_ARGUMENT */
export function assertAttachable({ store }: Services, { instance, share, asked }: Attaching): void {
  const what = `Cannot attach share ${share.name} to instance ${instance.name}`;
  const before = instance.shares.find(({ shareId }) => shareId === share.id);
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

/**
 * Before a definition has one: a guest that has one and can't be given it does not start any more.
 *
 * @throws {AgentError} UNSUPPORTED
 */
export async function assertSharesUsable({ hypervisor }: Services, options: CallOptions): Promise<void> {
  const { shares } = await hypervisor.facts(options);
  if (shares === undefined || shares.usable) return;
  throw new AgentError('UNSUPPORTED', `This host can't give guests shares: ${shares.reason}`, {
    hint: 'See `berth doctor`.',
  });
}
