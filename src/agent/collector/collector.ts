/**
 * Collector: looks for things on the host that Berth has made and nothing owns any more (promise 4).
 *
 * Theory of operation
 *
 *   timer, node.leaks, doctor, a removal ──▶ find (the host) ──▶ judge (pure) ──▶ sightings ──▶ event, policy
 *
 * The host is asked first and the journal after, so a thing of an operation that ended in between looks like a leak
 * for once. Therefore a thing counts only when it has been seen without an owner in two looks, CONFIRM_MS apart: a
 * sighting is kept for each, and forgotten as soon as a look finds the thing owned, in the making, or gone. Sightings
 * are in memory alone; a new daemon begins anew, and removes nothing before it has looked twice.
 *
 * A part of the host that can't be asked changes no sighting of its things. It is told as unknown, and nothing of it
 * is removed.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import { AgentError } from '../../model/errors.ts';
import { type Leak, LEAKS_LISTED_MAX, type NodeLeaks } from '../../model/leak.ts';
import type { Log } from '../log.ts';
import { pause } from '../operations/pause.ts';
import type { NameRow } from '../store/names.ts';
import type { Store } from '../store/store.ts';
import { find } from './find.ts';
import { judge } from './judge.ts';
import { storeLedger } from './ledger.ts';
import { type Asked, askedOf, isSameAsked, keyOf, type Thing } from './thing.ts';

/**
 * Between two looks that agree, ms: as long as a look may take at most, so that an operation which began or ended
 * while the first one asked has its rows in the store before the second one asks.
 */
export const CONFIRM_MS = 10_000;
/** Deadline of a look, ms; each part of the host has all of it. */
const LOOK_TIMEOUT_MS = 10_000;
/** First look after the start, ms: when networks are mended and the unfinished operations are on their way. */
const FIRST_LOOK_MS = 5 * 60_000;
/** Looks that a removal takes part in before it gives up on a host where things come and go. */
const CONFIRM_LOOKS = 4;
/** Leaks that are named in an event; `total` counts them all. */
const EVENT_LEAKS_MAX = 50;

export interface CollectorPolicy {
  policy: 'report' | 'remove';
  intervalMinutes: number;
}

export interface CollectorParts {
  drivers: Drivers;
  store: Store;
  clock: Clock;
  log: Log;
  config: CollectorPolicy;
  nodeId: string;
  hostname: () => string;
}

/** A thing that nothing owns. */
export interface FoundLeak {
  thing: Thing;
  proof: NameRow | null;
  blocked: string | null;
  since: string;
  confirmed: boolean;
}

/** What one look has found. */
export interface LookResult {
  at: string;
  leaks: FoundLeak[];
  unknown: (Asked & { reason: string })[];
  /** Milliseconds until a look can confirm all that is not confirmed; null for nothing to confirm. */
  confirmInMs: number | null;
}

interface Sighting {
  since: string;
  /** When the look that saw it first had ended, by the monotonic clock. */
  atMs: number;
  asked: Asked;
  confirmed: boolean;
}

export class Collector {
  readonly #parts: CollectorParts;
  readonly #sightings = new Map<string, Sighting>();
  readonly #stopping = new AbortController();
  #latest: LookResult | null = null;
  /** Keys of the proven leaks that were told last. */
  #told = '';
  #cancelTimer: () => void = () => undefined;
  #round: Promise<void> = Promise.resolve();
  #removeAll: () => void = () => undefined;

  constructor(parts: CollectorParts) {
    this.#parts = parts;
  }

  /** What the latest look has found; null before the first one. */
  get latest(): LookResult | null {
    return this.#latest;
  }

  /** Begins to look by itself. @param removeAll Asks for the removal of all that is proven, where the policy says so. */
  start(removeAll: () => void): void {
    this.#removeAll = removeAll;
    this.#lookLater(FIRST_LOOK_MS);
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    this.#cancelTimer();
    await this.#round;
  }

  /** Looks at the host now. Parts that can't be asked are in `unknown`. */
  async look(options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<LookResult> {
    const { drivers, clock } = this.#parts;
    const signal = AbortSignal.any([this.#stopping.signal, ...(options.signal ? [options.signal] : [])]);
    const beganMs = clock.monotonicMs();
    const found = await find(drivers, { timeoutMs: options.timeoutMs ?? LOOK_TIMEOUT_MS, signal });
    const leaks = this.#judged(found.things, beganMs);
    this.#forgetOthers(leaks, found.unknown);
    const waits = leaks.filter(({ confirmed }) => !confirmed).map((leak) => this.#confirmInMs(leak));
    const confirmInMs = waits.length === 0 ? null : Math.max(...waits);
    const result = { at: timestamp(clock), leaks, unknown: found.unknown, confirmInMs };
    this.#latest = result;
    if (result.unknown.length === 0) this.#tellChange(leaks);
    return result;
  }

  /** The answer of node.leaks. */
  async report(signal?: AbortSignal): Promise<NodeLeaks> {
    const { at, leaks, unknown, confirmInMs } = await this.look(signal === undefined ? {} : { signal });
    const listed = leaks.toSorted(byUse).slice(0, LEAKS_LISTED_MAX);
    return { at, total: leaks.length, leaks: listed.map(viewOf), unknown, confirmInMs };
  }

  /** Looks until everything in `keys` that is a leak has been seen twice; answers with the last look. */
  async confirmed(keys: ReadonlySet<string>, signal: AbortSignal): Promise<LookResult> {
    for (let looks = 1; ; looks++) {
      const result = await this.look({ signal });
      const fresh = result.leaks.filter(({ thing, confirmed }) => keys.has(keyOf(thing)) && !confirmed);
      if (fresh.length === 0) return result;
      if (looks === CONFIRM_LOOKS) {
        throw new AgentError('UNAVAILABLE', 'Cannot confirm the leaks: what is on the host keeps changing');
      }
      await pause(this.#parts.clock, Math.max(...fresh.map((leak) => this.#confirmInMs(leak))), signal);
      signal.throwIfAborted();
    }
  }

  /** Judges what was found, against the store as it is now, and keeps a sighting of each leak. */
  #judged(things: readonly Thing[], beganMs: number): FoundLeak[] {
    const ledger = storeLedger(this.#parts.store);
    return things.flatMap((thing) => {
      const verdict = judge(thing, ledger);
      if (verdict.state !== 'leak') return [];
      const { since, confirmed } = this.#sight(thing, beganMs);
      return [{ thing, proof: verdict.proof, blocked: verdict.blocked, since, confirmed }];
    });
  }

  #sight(thing: Thing, beganMs: number): Sighting {
    const { clock } = this.#parts;
    const key = keyOf(thing);
    const before = this.#sightings.get(key);
    const sighting: Sighting =
      before === undefined
        ? { since: timestamp(clock), atMs: clock.monotonicMs(), asked: askedOf(thing), confirmed: false }
        : { ...before, confirmed: before.confirmed || beganMs - before.atMs >= CONFIRM_MS };
    this.#sightings.set(key, sighting);
    return sighting;
  }

  /** What is no leak now begins anew when it is one again. */
  #forgetOthers(leaks: readonly FoundLeak[], unknown: readonly Asked[]): void {
    const seen = new Set(leaks.map(({ thing }) => keyOf(thing)));
    for (const [key, { asked }] of this.#sightings) {
      const isSilent = unknown.some((each) => isSameAsked(each, asked));
      if (!seen.has(key) && !isSilent) this.#sightings.delete(key);
    }
  }

  #confirmInMs({ thing }: FoundLeak): number {
    const atMs = this.#sightings.get(keyOf(thing))?.atMs ?? this.#parts.clock.monotonicMs();
    return Math.max(1, Math.ceil(atMs + CONFIRM_MS - this.#parts.clock.monotonicMs()));
  }

  /** An event when the set of leaks that are confirmed and proven has changed. */
  #tellChange(leaks: readonly FoundLeak[]): void {
    const proven = leaks.filter(({ confirmed, proof }) => confirmed && proof !== null);
    const told = proven
      .map(({ thing }) => keyOf(thing))
      .toSorted()
      .join('\n');
    if (told === this.#told) return;
    const { store, nodeId, hostname, log } = this.#parts;
    const shown = proven.slice(0, EVENT_LEAKS_MAX).map(viewOf);
    log.warn(
      { leaks: shown.map(({ kind, name }) => `${kind} ${name}`) },
      'the leaks on this host have changed',
    );
    store.db.transaction(() => {
      const target = { kind: 'node', id: nodeId, name: hostname() } as const;
      store.events.append('node.leaks', target, { total: proven.length, leaks: shown });
    });
    this.#told = told;
  }

  #lookLater(delayMs: number): void {
    if (this.#stopping.signal.aborted) return;
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => {
      this.#round = this.#runRound();
    });
  }

  /** Never rejects. */
  async #runRound(): Promise<void> {
    const { log, config } = this.#parts;
    try {
      await this.#lookTwice();
      if (config.policy === 'remove' && this.#hasRemovable()) this.#removeAll();
    } catch (error) {
      if (!this.#stopping.signal.aborted) log.warn({ error }, 'the host could not be searched for leaks');
    }
    this.#lookLater(config.intervalMinutes * 60_000);
  }

  async #lookTwice(): Promise<void> {
    const { confirmInMs } = await this.look();
    if (confirmInMs === null) return;
    await pause(this.#parts.clock, confirmInMs, this.#stopping.signal);
    await this.look();
  }

  #hasRemovable(): boolean {
    const leaks = this.#latest?.leaks ?? [];
    return leaks.some(({ confirmed, proof, blocked }) => confirmed && proof !== null && blocked === null);
  }
}

/** What could be removed first, then what is proven, then the rest. */
function byUse(a: FoundLeak, b: FoundLeak): number {
  const rank = ({ proof, blocked }: FoundLeak) => (proof === null ? 2 : 0) + (blocked === null ? 0 : 1);
  return rank(a) - rank(b);
}

function viewOf({ thing, proof, blocked, since, confirmed }: FoundLeak): Leak {
  const { kind, name, sizeBytes } = thing;
  return {
    kind,
    name,
    since,
    confirmed,
    proof: proof === null ? null : proofView(proof),
    blocked,
    sizeBytes,
  };
}

function proofView({ operationId, object, plannedAt, releasedAt }: NameRow): Leak['proof'] {
  return { operationId, object: { ...object }, plannedAt, releasedAt };
}
