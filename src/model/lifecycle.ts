/**
 * What may be asked of an instance in which state: pure, and the same for every driver.
 *
 * A repeated request is `done`; one that contradicts the state is refused with one sentence of reason.
 */
import { assertNever, type ErrorCode } from './errors.ts';
import { type Drift, objectionTo } from './drift.ts';
import type { Disowned, Lifecycle, Power } from './instance.ts';

export type Request =
  | 'start'
  | 'stop'
  | 'reboot'
  | 'delete'
  | 'configure'
  | 'restore'
  | 'change disks of'
  | 'take a snapshot of'
  | 'delete a snapshot of'
  | 'merge layers of'
  | 'revert'
  | 'change shares of'
  | 'back up';

export type Decision =
  | { verdict: 'accept' }
  | { verdict: 'done' }
  | { verdict: 'refuse'; code: ErrorCode; reason: string };

export interface InstanceState {
  lifecycle: Lifecycle;
  power: Power;
  disowned: Disowned | null;
  drift: readonly Pick<Drift, 'kind' | 'remedy'>[];
}

const ACCEPT: Decision = { verdict: 'accept' };

export function decide(request: Request, { lifecycle, power, disowned, drift }: InstanceState): Decision {
  if (lifecycle === 'deleting') return request === 'delete' ? ACCEPT : illegal('it is being deleted');
  if (lifecycle === 'building')
    return illegal('it is still being built; wait for that operation, or cancel it');
  switch (request) {
    case 'start':
      if (disowned !== null) return illegal(disownedSince(disowned));
      return unlessHarmful(drift, decideStart(power)); // a start defines the guest anew
    case 'stop':
      return decideStop(power);
    case 'reboot':
      return decideReboot(power);
    case 'delete':
      return ACCEPT; // the steps look at the host and refuse on doubt
    case 'configure':
      return unlessHarmful(drift, ACCEPT); // it defines the guest anew, too
    case 'back up': // how depends on whether it runs
    case 'merge layers of': // it looks by itself at what it would write over
      return power.state === 'unknown' ? unknown(power) : ACCEPT;
    case 'restore':
    case 'change disks of': // likewise
    case 'take a snapshot of':
    case 'delete a snapshot of':
    case 'revert':
    case 'change shares of':
      return unlessHarmful(drift, power.state === 'unknown' ? unknown(power) : ACCEPT);
    default:
      return assertNever(request);
  }
}

function decideStart(power: Power): Decision {
  switch (power.state) {
    case 'running':
      return { verdict: 'done' };
    case 'paused':
    case 'stopped':
    case 'crashed':
      return ACCEPT;
    case 'stopping':
      return illegal('it is shutting down; wait until it is stopped');
    case 'unknown':
      return unknown(power);
    default:
      return assertNever(power.state);
  }
}

function decideStop(power: Power): Decision {
  switch (power.state) {
    case 'stopped':
    case 'crashed':
      return { verdict: 'done' };
    case 'running':
    case 'paused':
    case 'stopping':
      return ACCEPT;
    case 'unknown':
      return unknown(power);
    default:
      return assertNever(power.state);
  }
}

function decideReboot(power: Power): Decision {
  switch (power.state) {
    case 'running':
      return ACCEPT;
    case 'paused':
      return illegal('it is paused; start it first');
    case 'stopping':
      return illegal('it is shutting down; wait until it is stopped, then start it');
    case 'stopped':
    case 'crashed':
      return illegal(`it is ${power.state}; start it instead`);
    case 'unknown':
      return unknown(power);
    default:
      return assertNever(power.state);
  }
}

function disownedSince({ at, reason }: Disowned): string {
  return `it is disowned since ${at}: ${reason}; an admin can take it back with instance.configure`;
}

function unlessHarmful(drift: InstanceState['drift'], decision: Decision): Decision {
  const objection = objectionTo(drift);
  if (decision.verdict !== 'accept' || objection === null) return decision;
  return illegal(`${objection}; see its drift, and mend it by hand`);
}

function illegal(reason: string): Decision {
  return { verdict: 'refuse', code: 'ILLEGAL_STATE', reason };
}

function unknown(power: Power): Decision {
  return {
    verdict: 'refuse',
    code: 'UNAVAILABLE',
    reason: `its power state is unknown since ${power.since}: ${power.reason}`,
  };
}
