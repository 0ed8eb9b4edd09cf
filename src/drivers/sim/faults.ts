/**
 * Faults: what a test makes go wrong between the agent and a simulated host.
 *
 * Each driver call passes here twice: `before` it acts, and `after` it has acted but before its answer is
 * given (a call that fails or hangs there has done its work). Rules are met in the order in which they were
 * made. Nothing here is kept when the process ends.
 *
 * ```ts
 * world.faults.fail('hypervisor.start', new AgentError('UNAVAILABLE', 'no answer'), { times: 1 });
 * const release = world.faults.hang('storage.makeVolume', { id, when: 'after' });
 * const restore = world.faults.cutOff('hypervisor');
 * ```
 */
import type { AgentError } from '../../model/errors.ts';
import type { Unsubscribe } from '../contracts/calls.ts';
import type { Host } from '../contracts/host.ts';
import type { Hypervisor } from '../contracts/hypervisor.ts';
import type { NetworkDriver } from '../contracts/network.ts';
import type { ObjectStore } from '../contracts/objects.ts';
import type { StoragePool } from '../contracts/storage.ts';

export type DriverName = 'hypervisor' | 'storage' | 'network' | 'host' | 'objects';
export type CallName =
  | `hypervisor.${Exclude<keyof Hypervisor, 'health' | 'onHealth' | 'subscribe' | 'keptPaths' | 'close'>}`
  | `storage.${Exclude<keyof StoragePool, 'name' | 'paths' | 'isShared' | 'enterNode'>}`
  | `network.${Exclude<keyof NetworkDriver, 'bridgeName' | 'tapName' | 'names' | 'reservationName'>}`
  | `host.${keyof Host}`
  | `objects.${Exclude<keyof ObjectStore, 'name' | 'place' | 'close'>}`;
/** One call, all calls of a driver, or all there are. */
export type CallPattern = CallName | `${DriverName}.*` | '*';

export interface SimCall {
  name: CallName;
  /** The guest, image, volume, instance, network, port or object that it is about; null where it is about none. */
  id: string | null;
  /** Name of the pool that is called. @default none */
  pool?: string;
}

export type Moment = 'before' | 'after';

export interface FaultScope {
  /** Only calls about this object. @default any */
  id?: string;
  /** Only calls of this pool. @default any */
  pool?: string;
  /** Calls that meet the fault, after which it is spent. @default until it is lifted */
  times?: number;
  /** @default 'before' */
  when?: Moment;
}

export type Effect =
  | { type: 'fail'; error: AgentError }
  | { type: 'delay'; delayMs: number }
  | { type: 'hang'; waiting: Set<() => void> };

/** Hears of each call at both moments; the call goes on when the answer resolves. */
export type CallListener = (call: SimCall, when: Moment) => void | Promise<void>;

interface Rule {
  pattern: CallPattern;
  id: string | null;
  pool: string | null;
  timesLeft: number;
  when: Moment;
  effect: Effect;
}

export class Faults {
  #rules: Rule[] = [];
  readonly #callListeners = new Set<CallListener>();
  readonly #cutOffs = new Map<DriverName, string>();
  readonly #cutOffListeners = new Set<(driver: DriverName) => void>();

  /** Makes calls fail with `error`. The answer lifts it. */
  fail(pattern: CallPattern, error: AgentError, scope: FaultScope = {}): () => void {
    return this.#add(pattern, { type: 'fail', error }, scope);
  }

  /** Makes calls take `delayMs` milliseconds of the world's clock longer. The answer lifts it. */
  delay(pattern: CallPattern, delayMs: number, scope: FaultScope = {}): () => void {
    return this.#add(pattern, { type: 'delay', delayMs }, scope);
  }

  /** Makes calls hang until their deadline. The answer lifts it and lets those that hang go on. */
  hang(pattern: CallPattern, scope: FaultScope = {}): () => void {
    const waiting = new Set<() => void>();
    const lift = this.#add(pattern, { type: 'hang', waiting }, scope);
    return () => {
      lift();
      for (const goOn of [...waiting]) goOn();
    };
  }

  /** Calls the listener at both moments of each call, to count, to step, or to kill. */
  onCall(listener: CallListener): Unsubscribe {
    this.#callListeners.add(listener);
    return () => void this.#callListeners.delete(listener);
  }

  /**
   * Takes one driver's connection to the host away: all of its calls are UNAVAILABLE, those under way too.
   *
   * The hypervisor then tells of lost health, loses events, and tells of one gap once it is back.
   *
   * @returns Gives the connection back.
   */
  cutOff(driver: DriverName, reason = 'the connection was cut'): () => void {
    if (this.#cutOffs.has(driver)) return () => this.#restore(driver);
    this.#cutOffs.set(driver, reason);
    this.#tellCutOff(driver);
    return () => this.#restore(driver);
  }

  /** Lifts every fault and gives every connection back; the listeners of calls stay. */
  clear(): void {
    const rules = this.#rules;
    this.#rules = [];
    for (const { effect } of rules) {
      if (effect.type === 'hang') for (const goOn of [...effect.waiting]) goOn();
    }
    for (const driver of [...this.#cutOffs.keys()]) this.#restore(driver);
  }

  /** Why the driver is cut off, or null where it is not. */
  cutOffReason(driver: DriverName): string | null {
    return this.#cutOffs.get(driver) ?? null;
  }

  /** Hears when a driver is cut off and when it is back. */
  onCutOff(listener: (driver: DriverName) => void): Unsubscribe {
    this.#cutOffListeners.add(listener);
    return () => void this.#cutOffListeners.delete(listener);
  }

  /** Whether no rule and no listener waits for a call. */
  get isQuiet(): boolean {
    return this.#rules.length === 0 && this.#callListeners.size === 0;
  }

  /** Tells the listeners of a call. */
  async tell(call: SimCall, when: Moment): Promise<void> {
    for (const listener of [...this.#callListeners]) await listener(call, when);
  }

  /** The effects that this call meets at this moment; counts it against their `times`. */
  meet(call: SimCall, when: Moment): Effect[] {
    if (this.#rules.length === 0) return [];
    const met = this.#rules.filter((rule) => rule.when === when && matches(rule, call));
    for (const rule of met) rule.timesLeft--;
    if (met.length > 0) this.#rules = this.#rules.filter(({ timesLeft }) => timesLeft > 0);
    return met.map(({ effect }) => effect);
  }

  #add(pattern: CallPattern, effect: Effect, scope: FaultScope): () => void {
    const rule: Rule = {
      pattern,
      id: scope.id ?? null,
      pool: scope.pool ?? null,
      timesLeft: scope.times ?? Number.POSITIVE_INFINITY,
      when: scope.when ?? 'before',
      effect,
    };
    this.#rules.push(rule);
    return () => {
      this.#rules = this.#rules.filter((each) => each !== rule);
    };
  }

  #restore(driver: DriverName): void {
    if (this.#cutOffs.delete(driver)) this.#tellCutOff(driver);
  }

  #tellCutOff(driver: DriverName): void {
    for (const listener of [...this.#cutOffListeners]) listener(driver);
  }
}

function matches(rule: Rule, call: SimCall): boolean {
  if (rule.id !== null && rule.id !== call.id) return false;
  if (rule.pool !== null && rule.pool !== call.pool) return false;
  const { pattern } = rule;
  return pattern === '*' || pattern === call.name || pattern === `${call.name.split('.')[0]}.*`;
}
