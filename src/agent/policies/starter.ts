/**
 * Starter: starts what its own policies make due, as an ordinary operation of each instance.
 *
 * Theory of operation: decide.ts decides; what it decides is in the store before it is acted on, so a restart of the
 * agent goes on with it. For each instance that waits there is one timer. A due start is submitted like anyone's
 * command: journaled, queued, fenced; `askedBy` tells whose it is. It waits for what runs on the instance already, for
 * the scheduler's word where that is needed (ownership.ts), and after a boot of the host for its turn.
 *
 *   instance changed, operation ended ──▶ decide ──▶ store ──▶ timer ──▶ submit ──▶ operation ended ──▶ …
 *
 * Its user always wins: a stop or delete cancels what a policy has begun, and forgets what was due.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError, assertNever } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import { isPolicy, type Operation } from '../../model/operation.ts';
import type { Log } from '../log.ts';
import type { Operations } from '../operations/operations.ts';
import type { RestartRecord } from '../store/instances.ts';
import type { Store } from '../store/store.ts';
import { decideStart, isIdle, LAST_DELAY_MS } from './decide.ts';
import type { Ownership } from './ownership.ts';

/** Guests started at once after a boot of the host: more would only make each other's boots slower. */
export const BOOT_STARTS_AT_ONCE = 4;
/** Pause after a start that was refused, or a decision that could not be written, ms. */
const RETRY_MS = LAST_DELAY_MS;

export interface StarterParts {
  store: Store;
  clock: Clock;
  log: Log;
  operations: Operations;
  ownership: Ownership;
}

export class Starter {
  readonly #parts: StarterParts;
  /** Instances that wait for their time; each with what cancels its timer. */
  readonly #timers = new Map<string, () => void>();
  /** Those whose time has come, and that wait for the scheduler's word. */
  readonly #held = new Set<string>();
  /** Those whose time has come, and that wait for another start after the host's boot to end. */
  readonly #queue = new Set<string>();
  #closed = false;

  constructor(parts: StarterParts) {
    this.#parts = parts;
    parts.ownership.onFreed(() => this.#release(this.#held, Number.POSITIVE_INFINITY));
  }

  close(): void {
    this.#closed = true;
    for (const id of [...this.#timers.keys()]) this.#drop(id);
  }

  /** Decides anew about one instance. */
  consider(id: string): void {
    if (this.#closed) return;
    try {
      this.#consider(id);
    } catch (error) {
      this.#parts.log.error({ instance: id, error }, 'what is due for an instance could not be decided');
      this.#retryLater(id);
    }
  }

  /** Takes note of an operation on an instance that was accepted, has changed or has ended. */
  noticed(operation: Operation): void {
    const { kind, target, askedBy, startedAt, endedAt } = operation;
    const isUsers = !isPolicy(askedBy) && (kind === 'instance.stop' || kind === 'instance.delete');
    if (isUsers && startedAt === null) this.#giveWay(target.id);
    if (endedAt !== null || this.#timers.has(target.id)) this.consider(target.id);
    if (endedAt !== null && askedBy === 'boot-policy') this.#release(this.#queue, 1);
  }

  #consider(id: string): void {
    const { store, clock } = this.#parts;
    this.#drop(id);
    const restarts = store.instances.restartsOf(id);
    // There is nothing to be started or forgotten, as after nearly every operation.
    if (isIdle(restarts) && store.instances.powerOf(id)?.state === 'running') return;
    const instance = store.instances.find(id);
    if (instance === null) return;
    const decision = decideStart(situationOf(instance, restarts), clock.now());
    switch (decision.verdict) {
      case 'nothing':
        return;
      case 'forget':
        this.#write(id, { ...restarts, due: null, nextAtMs: null, givenUp: null });
        return;
      // While something runs on it, how it is now says little; the end of that is told.
      case 'give-up':
        if (!this.#isBusy(id)) this.#giveUp(instance, restarts, decision.reason);
        return;
      case 'wait':
        if (!this.#isBusy(id)) this.#wait(id, restarts, decision);
        return;
      default:
        assertNever(decision);
    }
  }

  /** The event about what is written leads back here, and then there is nothing more to write. */
  #wait(id: string, restarts: RestartRecord, next: { due: 'crash' | 'boot'; untilMs: number }): void {
    if (restarts.due !== next.due || restarts.nextAtMs !== next.untilMs) {
      this.#write(id, { ...restarts, due: next.due, nextAtMs: next.untilMs });
      return;
    }
    const { clock } = this.#parts;
    const delayMs = Math.max(0, next.untilMs - clock.now());
    this.#timers.set(
      id,
      clock.after(delayMs, () => this.#starterOnTimer(id)),
    );
  }

  #giveUp({ id, name }: Instance, restarts: RestartRecord, reason: string): void {
    const { store, log } = this.#parts;
    log.warn({ instance: id, name, reason }, 'an instance is not started again by its policy');
    store.db.transaction(() => {
      store.instances.setRestarts(id, { ...restarts, due: null, nextAtMs: null, givenUp: reason });
      store.tellInstance('instance.restarts-exhausted', id);
    });
  }

  #write(id: string, restarts: RestartRecord): void {
    const { store } = this.#parts;
    store.db.transaction(() => {
      store.instances.setRestarts(id, restarts);
      store.tellInstance('instance.changed', id);
    });
  }

  #startNow(id: string, due: 'crash' | 'boot'): void {
    const { store, operations, ownership } = this.#parts;
    if (ownership.objection !== null) {
      this.#held.add(id);
      return;
    }
    if (due === 'boot' && store.operations.countUnfinishedOf('boot-policy') >= BOOT_STARTS_AT_ONCE) {
      this.#queue.add(id);
      return;
    }
    operations.submit('instance.start', { id }, due === 'boot' ? 'boot-policy' : 'crash-policy');
  }

  /** Cancels what policies have asked for, after its user has asked for the contrary. */
  #giveWay(id: string): void {
    const { store, operations } = this.#parts;
    for (const operation of store.operations.unfinishedOn({ kind: 'instance', id })) {
      if (isPolicy(operation.askedBy)) operations.cancel(operation.id);
    }
  }

  #release(waiting: Set<string>, count: number): void {
    for (const id of [...waiting].slice(0, count)) {
      waiting.delete(id);
      this.consider(id);
    }
  }

  #isBusy(id: string): boolean {
    return this.#parts.store.operations.unfinishedOn({ kind: 'instance', id }).length > 0;
  }

  #retryLater(id: string): void {
    this.#drop(id);
    this.#timers.set(
      id,
      this.#parts.clock.after(RETRY_MS, () => this.consider(id)),
    );
  }

  #drop(id: string): void {
    this.#timers.get(id)?.();
    this.#timers.delete(id);
    this.#held.delete(id);
    this.#queue.delete(id);
  }

  #starterOnTimer(id: string): void {
    const { store, clock, log } = this.#parts;
    this.#drop(id);
    if (this.#closed) return;
    try {
      const instance = store.instances.find(id);
      if (instance === null) return;
      const decision = decideStart(situationOf(instance, store.instances.restartsOf(id)), clock.now());
      if (decision.verdict !== 'wait' || decision.untilMs > clock.now()) this.consider(id);
      else this.#startNow(id, decision.due);
    } catch (error) {
      const { message: reason } = AgentError.from(error).toBody();
      log.warn({ instance: id, reason }, 'a start by policy was refused, and is tried again');
      this.#retryLater(id);
    }
  }
}

function situationOf({ lifecycle, desired, disowned, power, spec }: Instance, restarts: RestartRecord) {
  const { onCrash } = spec.policies;
  return { lifecycle, desired, isDisowned: disowned !== null, power: power.state, onCrash, restarts };
}
