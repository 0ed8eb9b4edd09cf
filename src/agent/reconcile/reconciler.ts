/**
 * Reconciler: tells in what guests have drifted, and restores those whose policy says so.
 *
 * Theory of operation
 *   a look at a guest (observer.ts) ──▶ judge (drift.ts, pure) ──▶ store and event, where it is news
 *                                                                   │ policy `restore`
 *                                                                   ▼
 *                       how often (restore-limit.ts, pure) ──▶ instance.restore, an ordinary operation
 *   an operation on an instance ends ──▶ look at its guest again
 *
 * Nothing is judged while an operation waits or runs on the instance: what that does is no drift, and its end is
 * followed by a look of its own. The drifts and the times of restores are in the store before anything acts on them,
 * so a restart of the agent goes on with them. For each instance that waits for its next restore there is one timer.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { ObservedGuest } from '../../drivers/contracts/hypervisor.ts';
import type { Drift, RestoreScope } from '../../model/drift.ts';
import { AgentError, assertNever } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import type { Instance } from '../../model/instance.ts';
import { hasEnded, type Operation } from '../../model/operation.ts';
import { planInstance } from '../instances/plan.ts';
import type { Log } from '../log.ts';
import type { Operations } from '../operations/operations.ts';
import type { Ownership } from '../policies/ownership.ts';
import type { Pools } from '../pools/pools.ts';
import type { Store } from '../store/store.ts';
import { type Judgement, judge, restorable } from './drift.ts';
import type { Found } from './found.ts';
import type { Observer } from './observer.ts';
import { decideRestore, recentRestores } from './restore-limit.ts';

/** Pause after a restore that was refused, or could not be written, ms. */
const RETRY_MS = 30_000;
/** What asks for a power, and may fail to bring it about. */
const POWER_METHODS = [
  'instance.create',
  'instance.takeover',
  'instance.start',
  'instance.stop',
  'instance.reboot',
] as const;

export interface ReconcilerParts {
  store: Store;
  clock: Clock;
  log: Log;
  pools: Pools;
  observer: Observer;
  operations: Operations;
  ownership: Ownership;
}

export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #unsubscribe: Unsubscribe[] = [];
  /** Instances that wait for their next restore; each with what cancels its timer. */
  readonly #timers = new Map<string, () => void>();
  #mayRestore = false;
  #closed = false;

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
  }

  /** Begins to judge what is looked at; to be called before the observer starts. Restores nothing yet. */
  start(): void {
    const { store, observer } = this.#parts;
    this.#unsubscribe.push(
      observer.onLook((id, guest) => this.#reconcilerOnLook(id, guest)),
      store.events.subscribe((event) => this.#reconcilerOnEvent(event)),
    );
  }

  /** Restores from now on; to be called once the operations that the last agent left are taken up. */
  begin(): void {
    this.#mayRestore = true;
    this.#considerAll();
    this.#parts.ownership.onFreed(() => this.#considerAll());
  }

  close(): void {
    this.#closed = true;
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    for (const id of [...this.#timers.keys()]) this.#drop(id);
  }

  #considerAll(): void {
    for (const { id, drift } of this.#parts.store.instances.list()) {
      if (drift.length > 0) this.#guarded(id, () => this.#consider(id));
    }
  }

  #judge(id: string, guest: ObservedGuest | null): void {
    const { store, pools } = this.#parts;
    const instance = store.instances.find(id);
    if (instance === null) return;
    const situation = {
      lifecycle: instance.lifecycle,
      power: instance.power.state,
      isBusy: this.#isBusy(id),
      guest,
      baseline: store.instances.baselineOf(id),
      desired: instance.desired,
      isExcused: () => this.#isExcused(instance),
    };
    const judgement = judge(situation, () => planInstance(store, pools, instance).definition);
    if (judgement.verdict === 'undecided') return;
    this.#write(instance, judgement);
    this.#consider(id);
  }

  /**
   * A guest that has shut itself down, a start that its policies make, and a power operation that has failed, explain a
   * power that nobody has asked for.
   */
  #isExcused({ id }: Instance): boolean {
    const { instances, operations } = this.#parts.store;
    if (instances.hasShutItselfDown(id) || instances.restartsOf(id).due !== null) return true;
    const last = operations.lastEndedState({ kind: 'instance', id }, POWER_METHODS);
    return last !== null && last !== 'succeeded';
  }

  /** What is as it was is not written again. */
  #write(instance: Instance, { drifts, baseline }: Extract<Judgement, { verdict: 'judged' }>): void {
    const { store, log } = this.#parts;
    const { id, name } = instance;
    const drift = this.#dated(drifts, instance.drift);
    const isNews = JSON.stringify(drift) !== JSON.stringify(instance.drift);
    const isRebased = JSON.stringify(baseline) !== JSON.stringify(store.instances.baselineOf(id));
    if (!isNews && !isRebased) return;
    store.db.transaction(() => {
      store.instances.setBaseline(id, baseline);
      if (!isNews) return;
      store.instances.setDrift(id, drift);
      store.tellInstance('instance.drifted', id);
    });
    if (isNews) log.info({ instance: id, name, drift }, 'the drift of an instance has changed');
  }

  /** What was there before keeps its time. */
  #dated(drifts: readonly Found[], before: readonly Drift[]): Drift[] {
    const now = timestamp(this.#parts.clock);
    return drifts.map(({ kind, detail, remedy }) => {
      const known = before.find((each) => each.kind === kind && each.detail === detail);
      return { kind, detail, since: known?.since ?? now, remedy };
    });
  }

  /** Restores, or sets the time for it. */
  #consider(id: string): void {
    this.#drop(id);
    if (!this.#mayRestore || this.#closed) return;
    const { store, clock } = this.#parts;
    const instance = store.instances.find(id);
    if (instance === null || this.#isBusy(id)) return; // its operation's end is told
    const { timesMs } = store.instances.restoresOf(id);
    const what = instance.spec.policies.onDrift === 'restore' ? this.#toRestore(instance) : null;
    if (what === null) {
      this.#remember(instance, timesMs, null);
      return;
    }
    const decision = decideRestore(timesMs, clock.now(), what);
    switch (decision.verdict) {
      case 'restore':
        this.#restore(instance, timesMs, what.scope);
        return;
      case 'wait':
        this.#wakeAt(id, decision.untilMs);
        return;
      case 'held':
        this.#remember(instance, timesMs, decision.reason);
        this.#wakeAt(id, decision.untilMs);
        return;
      default:
        assertNever(decision);
    }
  }

  /** Null for nothing. No policy starts what may have moved to another node: that waits for the scheduler's word. */
  #toRestore({ drift, disowned }: Instance): { scope: RestoreScope; sinceMs: number } | null {
    const { definition, power } = restorable(drift);
    const mayStart = disowned === null && this.#parts.ownership.objection === null;
    if (definition.length === 0 && (power.length === 0 || !mayStart)) return null;
    const scope = power.length > 0 && mayStart ? 'all' : 'definition';
    const since = definition.length > 0 ? [] : power.map((each) => Date.parse(each.since));
    return { scope, sinceMs: Math.max(0, ...since) };
  }

  /** It counts before it acts, so that one which ends the agent is counted too. */
  #restore(instance: Instance, timesMs: readonly number[], scope: RestoreScope): void {
    const { operations, clock } = this.#parts;
    this.#remember(instance, [...timesMs, clock.now()], null);
    operations.submit('instance.restore', { id: instance.id, scope }, 'drift-policy');
  }

  #remember(instance: Instance, timesMs: readonly number[], givenUp: string | null): void {
    const { store, clock, log } = this.#parts;
    const { id, name } = instance;
    const record = { timesMs: recentRestores(timesMs, clock.now()), givenUp };
    if (JSON.stringify(record) === JSON.stringify(store.instances.restoresOf(id))) return;
    store.db.transaction(() => {
      store.instances.setRestores(id, record);
      store.tellInstance('instance.changed', id);
    });
    if (givenUp !== null)
      log.warn({ instance: id, name, reason: givenUp }, 'an instance is not restored any more');
  }

  #isBusy(id: string): boolean {
    return this.#parts.store.operations.isBusy({ kind: 'instance', id });
  }

  #wakeAt(id: string, atMs: number): void {
    const { clock } = this.#parts;
    const cancel = clock.after(Math.max(0, atMs - clock.now()), () =>
      this.#guarded(id, () => this.#consider(id)),
    );
    this.#timers.set(id, cancel);
  }

  #drop(id: string): void {
    this.#timers.get(id)?.();
    this.#timers.delete(id);
  }

  /** Whoever tells is never answered by an exception; it is tried again. */
  #guarded(id: string, body: () => void): void {
    if (this.#closed) return;
    const { clock, log } = this.#parts;
    try {
      body();
    } catch (error) {
      const reason = AgentError.from(error).toBody().message;
      log.warn({ instance: id, reason, error }, 'a drift could not be dealt with, and is tried again');
      this.#drop(id);
      this.#wakeAt(id, clock.now() + RETRY_MS);
    }
  }

  #reconcilerOnLook(id: string, guest: ObservedGuest | null): void {
    this.#guarded(id, () => this.#judge(id, guest));
  }

  #reconcilerOnEvent({ type, data }: BerthEvent): void {
    if (type !== 'operation.changed') return;
    const { target, state } = data['operation'] as Operation;
    if (target.kind === 'instance' && hasEnded(state)) this.#parts.observer.refreshSoon(target.id);
  }
}
