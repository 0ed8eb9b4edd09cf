/**
 * Whether a guest's power is not what was last asked for, by the doing of others. Pure.
 *
 * Much else explains it: a guest may shut itself down, an operation may have failed, a policy may be about to start it.
 * A crash is the policies' business (src/agent/policies). A plug that was pulled, or a pause, by request can be restored;
 * after anything else (a migration, a full disk, a snapshot being taken) a start could do harm. No guest is ever
 * stopped: one that others have started is for an operator to decide on.
 */
import type { ObservedGuest } from '../../drivers/contracts/hypervisor.ts';
import type { DriftKind } from '../../model/drift.ts';
import { assertNever } from '../../model/errors.ts';
import type { Desire, PowerState } from '../../model/instance.ts';
import { type Found, found } from './found.ts';

export interface PowerSituation {
  power: PowerState;
  /** Null where the host has none. */
  guest: ObservedGuest | null;
  desired: Desire;
  /** Whether something else than others explains that its power is not as desired. */
  isExcused: () => boolean;
}

export function isPowerDrift(kind: DriftKind): boolean {
  return kind === 'started' || kind === 'stopped' || kind === 'paused';
}

export function powerDrift({ desired, power, guest, isExcused }: PowerSituation): Found[] {
  const drift = desired === 'running' ? ofWantedRunning(power, guest) : ofWantedStopped(power);
  return drift === null || isExcused() ? [] : [drift];
}

function ofWantedRunning(power: PowerState, guest: ObservedGuest | null): Found | null {
  const reason = guest?.reason ?? 'it is gone';
  const remedy = guest?.byRequest ? 'restore' : 'by-hand';
  switch (power) {
    case 'stopped':
      return found('stopped', `it was last asked to run, and is stopped: ${reason}`, remedy);
    case 'paused':
      return found('paused', `it was last asked to run, and is paused: ${reason}`, remedy);
    case 'running':
    case 'stopping':
    case 'crashed':
    case 'unknown':
      return null;
    default:
      return assertNever(power);
  }
}

function ofWantedStopped(power: PowerState): Found | null {
  switch (power) {
    case 'running':
    case 'paused':
      return found('started', 'it was last asked to stop, and others have started it', 'by-hand');
    case 'stopped':
    case 'stopping':
    case 'crashed':
    case 'unknown':
      return null;
    default:
      return assertNever(power);
  }
}
