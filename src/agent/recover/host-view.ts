/**
 * The host as recovery sees it: guests of ours with what they carry, and what pool and networks tell.
 */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import type { GuestUse, ObservedGuest } from '../../drivers/contracts/hypervisor.ts';
import type { FoundNetwork } from '../../drivers/contracts/network.ts';
import type { PoolSurvey } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { PowerState } from '../../model/instance.ts';
import { type GuestMetadata, readMetadata } from '../instances/metadata.ts';

/** A guest that bears our mark. */
export interface HostGuest {
  id: string;
  /** The hypervisor's name of it. */
  name: string;
  power: { state: PowerState; reason: string };
  generationId: string | null;
  /** Null where it can't be believed; `fault` says why. */
  metadata: GuestMetadata | null;
  fault: string | null;
}

export interface HostView {
  guests: HostGuest[];
  /** Of every guest, ours or not. */
  uses: Pick<GuestUse, 'id' | 'name' | 'files'>[];
  /** The default pool. */
  pool: PoolSurvey;
  /** Pools beside it, of which volumes count, and copies of images. @default none */
  others?: { name: string; survey: PoolSurvey }[];
  networks: FoundNetwork[];
}

/** @throws {AgentError} UNAVAILABLE: one of them can't be asked; a view is whole or none. */
export async function viewHost(drivers: Drivers, options: CallOptions): Promise<HostView> {
  const { hypervisor, pool, pools, network } = drivers;
  const [observed, uses, survey, others, networks] = await Promise.all([
    hypervisor.observe(options),
    hypervisor.uses(options),
    pool.survey(options),
    Promise.all(
      Array.from(pools.values(), async (each) => ({ name: each.name, survey: await each.survey(options) })),
    ),
    network.plans(options),
  ]);
  return { guests: guestsOf(observed), uses, pool: survey, others, networks };
}

/** Those of ours, with what they carry where it is what Berth has written for them. */
export function guestsOf(observed: readonly ObservedGuest[]): HostGuest[] {
  return observed.filter(({ ours }) => ours).map(toGuest);
}

function toGuest({ id, name, power, reason, generationId, metadata: text }: ObservedGuest): HostGuest {
  const guest = { id, name, power: { state: power, reason }, generationId };
  try {
    const metadata = readMetadata(text ?? '');
    if (metadata.id === id) return { ...guest, metadata, fault: null };
    return { ...guest, metadata: null, fault: `what it carries is about another guest, ${metadata.id}` };
  } catch (error) {
    const { message } = AgentError.from(error).toBody();
    return { ...guest, metadata: null, fault: `what it carries can't be read: ${message}` };
  }
}
