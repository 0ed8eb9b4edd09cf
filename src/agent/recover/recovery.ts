/**
 * Recovery: the state rebuilt from the host, at a start that needs it and on command.
 *
 * Theory of operation
 *   a note in the database (store/recovery-note.ts) ──▶ view the host ──▶ one transaction: rows, events, the note goes
 *   the host knows newer things than the database ────▶ a note, and the same
 *        the host can't be asked ──▶ wait; whatever would look at or change objects is refused as UNAVAILABLE
 *   `node.recover` ──▶ view the host ──▶ one transaction: what is on the host and not here
 *
 * The plan is made within the transaction from a view taken before it. A view that operations have overtaken is
 * taken again: an object that was deleted meanwhile would come back to life. No guest is touched, and nothing is
 * deleted.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import type { StoragePool } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { Health } from '../../model/node.ts';
import type { RecoveryReport } from '../../model/recovery.ts';
import type { Log } from '../log.ts';
import { SEQ_LIMIT } from '../store/events.ts';
import { parseRecoveryNote, type RecoveryNote, writeRecoveryNote } from '../store/recovery-note.ts';
import type { Store } from '../store/store.ts';
import { guestsOf, type HostView, viewHost } from './host-view.ts';
import { planRecovery } from './plan.ts';
import type { RecoveryPlan } from './planning.ts';
import { knownOf, settleBehind, writePlan } from './write.ts';

/** Pause before the host is asked again, ms. */
const RETRY_MS = 2_000;
/** A view of a thousand guests takes a second or two; a host that takes longer is in trouble, ms. */
const VIEW_TIMEOUT_MS = 60_000;
/** Views that operations may overtake before the caller is told to come again. */
const VIEWS_LIMIT = 5;
/** Objects in the event; the report and the log have them all. */
const TOLD_LIMIT = 100;

export interface RecoveryParts {
  store: Store;
  drivers: Drivers;
  clock: Clock;
  log: Log;
  nodeId: string;
  /** Called after objects came into the store that were not there at the start. */
  onAdded: () => void;
}

export class Recovery {
  readonly #parts: RecoveryParts;
  /** The newest event when the database was opened; since then it tells of itself. */
  readonly #openedSeq: number;
  #note: RecoveryNote | null;
  #health: Health;
  #onServing: () => void = () => undefined;
  #stopRetrying: () => void = () => undefined;
  #closed = false;

  constructor(parts: RecoveryParts) {
    this.#parts = parts;
    this.#openedSeq = parts.store.events.lastSeq();
    this.#note = parseRecoveryNote(parts.store.meta.get('recovery'));
    const since = this.#note?.since ?? timestamp(parts.clock);
    this.#health =
      this.#note === null
        ? { state: 'ok', since, reason: 'whole' }
        : { state: 'unavailable', since, reason: 'recovering, not begun' };
  }

  get health(): Health {
    return this.#health;
  }

  get isServing(): boolean {
    return this.#note === null;
  }

  /** @throws {AgentError} UNAVAILABLE while the state is not rebuilt yet. */
  assertServing(what: string): void {
    if (this.#note === null) return;
    const { since, reason } = this.#health;
    throw new AgentError(
      'UNAVAILABLE',
      `Cannot answer ${what}: the node's state is being rebuilt since ${since}`,
      {
        hint: `It is ${reason}. See \`berth status\`.`,
      },
    );
  }

  /** Rebuilds what has to be, if the host can be asked now; else goes on trying until `close`. */
  async start(): Promise<void> {
    if (this.#note === null) await this.#lookBehind();
    await this.#attempt();
  }

  /** Calls back once the state can be relied on: at once, or later. */
  onServing(listener: () => void): void {
    if (this.isServing) listener();
    else
      this.#onServing = () => {
        listener();
        this.#parts.onAdded();
      };
  }

  close(): void {
    this.#closed = true;
    this.#stopRetrying();
  }

  /** Adds what is on the host and not here. @throws {AgentError} UNAVAILABLE */
  async recover(dryRun: boolean): Promise<RecoveryReport> {
    this.assertServing('node.recover');
    for (let attempt = 0; attempt < VIEWS_LIMIT; attempt++) {
      const { store, drivers } = this.#parts;
      const seenSeq = store.events.lastSeq();
      const view = await viewHost(drivers, { timeoutMs: VIEW_TIMEOUT_MS });
      if (store.events.hasSince(seenSeq, 'operation.changed')) continue;
      const plan = dryRun ? this.#plan(view, null) : this.#adopt(view);
      return { dryRun, added: plan.added, leftOut: plan.leftOut };
    }
    throw new AgentError(
      'UNAVAILABLE',
      'Cannot compare host and database: operations begin and end all the time',
      {
        hint: 'Try again in a quieter moment.',
      },
    );
  }

  #adopt(view: HostView): RecoveryPlan {
    const { store } = this.#parts;
    const plan = store.db.transaction(() => {
      const planned = this.#plan(view, null);
      if (planned.added.length > 0)
        this.#write(planned, { cause: 'asked', reason: 'asked for', setAside: '' });
      return planned;
    });
    if (plan.added.length > 0) this.#parts.onAdded();
    return plan;
  }

  /** A guest that was defined after the newest event of this database proves that it has lost something. */
  async #lookBehind(): Promise<void> {
    const { drivers, log, nodeId } = this.#parts;
    const { hypervisor } = drivers;
    if (!hypervisor.health().connected) {
      this.#stopRetrying = hypervisor.onHealth(({ connected }) => connected && this.#lookBehindLate());
      return;
    }
    try {
      const guests = guestsOf(await hypervisor.observe({ timeoutMs: VIEW_TIMEOUT_MS }));
      const seqs = guests
        .flatMap(({ metadata }) => (metadata?.nodeId === nodeId ? [metadata.seq] : []))
        .filter((seq) => seq <= SEQ_LIMIT);
      const newest = Math.max(0, ...seqs);
      if (newest > this.#openedSeq && !this.#closed) this.#noteBehind(newest);
    } catch (error) {
      log.warn({ error }, 'whether the database is as new as the host could not be found out');
    }
  }

  #lookBehindLate(): void {
    this.#stopRetrying();
    this.#onServing = () => this.#parts.onAdded();
    void this.#lookBehind()
      .then(() => this.#attempt())
      .then(() => this.isServing && !this.#closed && this.#onServing());
  }

  #noteBehind(newest: number): void {
    const { store, clock, log } = this.#parts;
    const reason = `it ends with event ${this.#openedSeq}, and a guest was defined after event ${newest}`;
    log.error({ reason }, 'THE DATABASE IS OLDER THAN THE HOST: what it has lost is rebuilt');
    const since = timestamp(clock);
    const note: RecoveryNote = { cause: 'behind', reason, since, setAside: '', names: {}, generations: {} };
    store.db.transaction(() => {
      store.meta.set('recovery', writeRecoveryNote(note));
      store.events.skipTo(Math.max(newest, clock.now()));
    });
    this.#note = note;
  }

  async #attempt(): Promise<void> {
    const note = this.#note;
    if (note === null || this.#closed) return;
    try {
      this.#assertConnected();
      const view = await viewHost(this.#parts.drivers, { timeoutMs: VIEW_TIMEOUT_MS });
      if (!this.#closed) this.#rebuild(note, view);
    } catch (error) {
      if (!this.#closed) this.#waitFor(note, error);
    }
  }

  #assertConnected(): void {
    const { connected, reason } = this.#parts.drivers.hypervisor.health();
    if (!connected) throw new AgentError('UNAVAILABLE', `waiting for the hypervisor: ${reason}`);
  }

  #waitFor(note: RecoveryNote, error: unknown): void {
    const { log, clock } = this.#parts;
    const { message } = AgentError.from(error).toBody();
    const reason = message.startsWith('waiting') ? message : `waiting for the host: ${message}`;
    this.#health = { state: 'unavailable', since: note.since, reason: `recovering, ${reason}` };
    log.warn({ error, cause: note.cause }, 'the state can not be rebuilt from the host yet');
    this.#stopRetrying = this.#retryLater(clock);
  }

  /** After a pause, or as soon as the hypervisor is connected. */
  #retryLater(clock: Clock): () => void {
    const { hypervisor } = this.#parts.drivers;
    const stop = () => {
      cancelTimer();
      unsubscribe();
    };
    const again = () => {
      stop();
      void this.#attempt().then(() => this.isServing && !this.#closed && this.#onServing());
    };
    const cancelTimer = clock.after(RETRY_MS, again);
    const unsubscribe = hypervisor.onHealth(({ connected }) => connected && again());
    return stop;
  }

  #rebuild(note: RecoveryNote, view: HostView): void {
    const { store, clock } = this.#parts;
    const plan = store.db.transaction(() => {
      if (note.cause === 'behind') settleBehind(store, view, timestamp(clock));
      const planned = this.#plan(view, note);
      const isNews = note.cause !== 'new' || planned.added.length > 0 || planned.leftOut.length > 0;
      // The host had a node before: its events may be known, whatever this database says.
      if (isNews) store.events.skipTo(clock.now());
      if (isNews) this.#write(planned, note);
      store.meta.remove('recovery');
      return planned;
    });
    this.#note = null;
    this.#health = {
      state: 'ok',
      since: timestamp(clock),
      reason:
        plan.added.length === 0 && note.cause === 'new'
          ? 'new'
          : `rebuilt from the host (${note.reason}): ${plan.added.length} objects, ${plan.leftOut.length} left out`,
    };
  }

  #plan(view: HostView, note: RecoveryNote | null): RecoveryPlan {
    const { store, drivers, clock } = this.#parts;
    return planRecovery(view, knownOf(store), {
      pool: drivers.pool.name,
      now: timestamp(clock),
      names: note?.names ?? {},
      generations: note?.generations ?? {},
      bridgeName: (id) => drivers.network.bridgeName(id),
      tapName: (id) => drivers.network.tapName(id),
      otherPools: new Set(drivers.pools.keys()),
      volumePath: (id, pool) => pathsOf(drivers, pool).volume(id),
      layerPath: (volumeId, layer, pool) => pathsOf(drivers, pool).layer(volumeId, layer),
      seedPath: (id) => drivers.pool.paths.seed(id),
    });
  }

  /** Rows, one event of the whole, and one line in the log once it is durable. */
  #write(
    plan: RecoveryPlan,
    { cause, reason, setAside }: { cause: string; reason: string; setAside: string },
  ): void {
    const { store, clock, log, nodeId } = this.#parts;
    writePlan(store, plan, timestamp(clock));
    const told = {
      cause,
      reason,
      setAside: setAside === '' ? null : setAside,
      added: countByKind(plan.added),
      leftOut: plan.leftOut.slice(0, TOLD_LIMIT),
      notes: plan.added.filter(({ note }) => note !== null).slice(0, TOLD_LIMIT),
    };
    store.events.append('node.recovered', { kind: 'node', id: nodeId, name: 'node' }, told);
    store.db.onCommit(() =>
      log.error(
        { ...told, leftOut: plan.leftOut, notes: plan.added.filter(({ note }) => note !== null) },
        'THE STATE WAS REBUILT FROM THE HOST',
      ),
    );
  }
}

/** @param name Of a pool that there is. @default the default one */
function pathsOf({ pool, pools }: Drivers, name: string = pool.name): StoragePool['paths'] {
  return (pools.get(name) ?? pool).paths;
}

function countByKind(objects: readonly { kind: string }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind } of objects) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}
