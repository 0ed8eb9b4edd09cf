/**
 * Metering: reads what guests use, keeps the ledger in the store, and tells records as events.
 *
 * Theory of operation
 *
 *   each change of an instance or a volume ─▶ usage_changes, in its own transaction
 *   every sampleSeconds, and at the end of each period:
 *     hypervisor.usage ─▶ one transaction: ledger.ts over changes and reading ─▶ meters, records, `usage.recorded`
 *
 * One reader for all: whoever else wants to know what guests use asks the records. What can't be read is no failure: the
 * next reading closes the gap by the counters. What can't be written is tried again with the next one, from what is on
 * disk.
 *
 * A database that was put back may be older than the records that were told of it. The end of the last period that was
 * told is kept in a file beside it: where the file is ahead, counting begins anew, as a record too few is better than
 * one that is paid twice.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { GuestEvent, GuestUsage, Hypervisor } from '../../drivers/contracts/hypervisor.ts';
import { AgentError } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import type { UsageRecord } from '../../model/usage.ts';
import { serialOf } from '../instances/plan.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/store.ts';
import { Ledger } from './ledger.ts';
import { readToldUntil, writeToldUntil } from './told-until.ts';
import { recordOf } from './records.ts';
import { MeterClock, periodAt, type Point } from './time.ts';

/** Records in one event: about 50 KB of it. */
export const RECORDS_PER_EVENT = 50;
/** Records kept for a scheduler that does not come: two weeks of 1,500 objects; beyond it the oldest are lost, and told. */
export const RECORDS_LIMIT = 500_000;
/** A reading of all guests takes milliseconds; one that takes longer is left to the next, ms. */
const READ_TIMEOUT_MS = 10_000;
/** A guest that is ended waits no longer for its last reading, ms. */
const SETTLE_TIMEOUT_MS = 2_000;
/** How long after the end of a period its reading is taken, ms: a timer never comes too early then. */
const BORDER_DELAY_MS = 5;
const DAY_MS = 24 * 3600_000;

export interface MeteringSettings {
  enabled: boolean;
  sampleSeconds: number;
  periodSeconds: number;
  keepDays: number;
}

export interface MeteringParts {
  store: Store;
  hypervisor: Hypervisor;
  clock: Clock;
  log: Log;
  settings: MeteringSettings;
  /** State folder of the node. */
  folder: string;
  newId: () => string;
  /** Whether the configuration names one who acknowledges events; one who was ever heard counts as well. */
  hasScheduler: boolean;
  /** @default RECORDS_LIMIT */
  recordsLimit?: number;
}

export class Metering {
  readonly #parts: MeteringParts;
  readonly #lengthMs: number;
  readonly #stopping = new AbortController();
  readonly #ends: Unsubscribe[] = [];
  #meterClock: MeterClock;
  #ledger: Ledger | null = null;
  #cancelTimer: () => void = () => undefined;
  #reading: Promise<void> | null = null;

  constructor(parts: MeteringParts) {
    this.#parts = parts;
    this.#lengthMs = parts.settings.periodSeconds * 1000;
    this.#meterClock = new MeterClock(parts.clock, null);
  }

  /** Begins to note changes; before anything looks at the guests. */
  watch(): void {
    const { store, settings } = this.#parts;
    const { events, usageRecords } = store;
    this.#ends.push(events.onRenumber((seq, by) => usageRecords.moveEvents(seq, by)));
    if (settings.enabled) this.#takeUp();
    else this.#forget();
  }

  #takeUp(): void {
    const { events, meters, db } = this.#parts.store;
    this.#refuseOlder();
    const last = this.#lastPoint();
    this.#meterClock = new MeterClock(this.#parts.clock, last);
    if (last !== null) db.transaction(() => meters.noteBlind(last));
    this.#ends.push(events.onAppend((event) => this.#note(event)));
  }

  /** Begins to read; once the state of the node is known. */
  start(): void {
    if (!this.#parts.settings.enabled || this.#stopping.signal.aborted) return;
    const { hypervisor } = this.#parts;
    this.#ends.push(hypervisor.onHealth(({ connected }) => connected && this.#readIn(0)));
    this.#ends.push(hypervisor.subscribe((event) => this.#hypervisorOnEvent(event)));
    this.#readIn(0);
  }

  /** Reads a last time before a guest is ended by us; what keeps it from being read does not keep the guest. */
  async settle(): Promise<void> {
    if (this.#ledger?.isAnyOn !== true || this.#stopping.signal.aborted) return;
    const { promise: isLate, resolve } = Promise.withResolvers<void>();
    const cancelTimer = this.#parts.clock.after(SETTLE_TIMEOUT_MS, resolve);
    await Promise.race([this.#read(), isLate]).finally(cancelTimer);
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    for (const end of this.#ends.splice(0)) end();
    this.#cancelTimer();
    await this.#reading;
  }

  #note({ type, target }: Pick<BerthEvent, 'type' | 'target'>): void {
    const { meters } = this.#parts.store;
    if (target?.kind === 'instance')
      meters.noteInstance(target.id, this.#meterClock.now(), type === 'instance.created');
    else if (target?.kind === 'volume')
      meters.noteVolume(target.id, this.#meterClock.now(), type === 'volume.created');
  }

  /** A guest that comes down is read once more while it is there. */
  #hypervisorOnEvent(event: GuestEvent): void {
    if (event.type === 'power' && event.guest?.power === 'stopping') void this.settle();
  }

  /** What was counted until it was turned off is in no record, and would be in the first one after it is turned on. */
  #forget(): void {
    const { db, meters } = this.#parts.store;
    if (meters.state() !== null) db.transaction(() => meters.reset());
  }

  #refuseOlder(): void {
    const { store, folder, log } = this.#parts;
    const state = store.meters.state();
    const toldUntilMs = readToldUntil(folder);
    if (state === null || toldUntilMs === null || toldUntilMs <= state.period.startMs) return;
    log.error(
      { toldUntil: new Date(toldUntilMs), state },
      'THE DATABASE IS OLDER THAN USAGE THAT WAS TOLD OF IT: usage is counted anew from now on',
    );
    store.db.transaction(() => store.meters.reset());
  }

  #lastPoint(): Point | null {
    const { meters } = this.#parts.store;
    return meters.changes().at(-1)?.at ?? meters.state()?.at ?? null;
  }

  #readIn(delayMs: number): void {
    this.#cancelTimer();
    if (this.#stopping.signal.aborted) return;
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => {
      void this.#read().finally(() => this.#readIn(this.#pauseMs()));
    });
  }

  /** Until the next reading: the end of a period is met. */
  #pauseMs(): number {
    const nowMs = this.#parts.clock.now();
    const untilBorderMs = periodAt(nowMs, this.#lengthMs).endMs - nowMs;
    return Math.min(this.#parts.settings.sampleSeconds * 1000, untilBorderMs + BORDER_DELAY_MS);
  }

  /** One at a time: who asks while one is under way waits for it. */
  #read(): Promise<void> {
    this.#reading ??= this.#readOnce().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #readOnce(): Promise<void> {
    const usages = await this.#ask();
    if (this.#stopping.signal.aborted) return;
    try {
      this.#write(usages);
    } catch (error) {
      this.#ledger = null; // what is on disk counts
      this.#parts.log.error({ error }, 'usage could not be written; the next reading has it');
    }
  }

  /** Null where the host can't be asked. */
  async #ask(): Promise<GuestUsage[] | null> {
    const { hypervisor, log } = this.#parts;
    if (!hypervisor.health().connected) return null;
    try {
      return await hypervisor.usage({ timeoutMs: READ_TIMEOUT_MS, signal: this.#stopping.signal });
    } catch (thrown) {
      const error = AgentError.from(thrown);
      if (!this.#stopping.signal.aborted) log.warn({ error }, 'what the guests have used could not be read');
      return null;
    }
  }

  #write(usages: GuestUsage[] | null): void {
    const { store } = this.#parts;
    const before = store.meters.state()?.period.startMs;
    store.db.transaction(() => this.#advance(usages));
    const startMs = this.#ledger?.state.period.startMs;
    if (startMs !== undefined && startMs !== before) writeToldUntil(this.#parts.folder, startMs);
  }

  #advance(usages: GuestUsage[] | null): void {
    const { meters } = this.#parts.store;
    const to = this.#meterClock.now();
    const ledger = this.#open(to);
    const { period } = ledger.state;
    const changes = meters.changes();
    ledger.advance(changes, to, usages);
    const { instances, volumes } = meters.present();
    ledger.reconcile(instances, volumes);
    const { closed, touched } = ledger.take();
    if (touched.length === 0 && changes.length === 0 && ledger.state.period === period) return;
    if (changes.length > 0) meters.clearChanges();
    for (const id of touched) this.#keep(id, ledger);
    meters.setState(ledger.state);
    this.#tell(closed.map((each) => recordOf(each, this.#parts.newId())));
    if (ledger.state.period !== period) this.#cleanUp(to);
  }

  #open(at: Point): Ledger {
    const { meters } = this.#parts.store;
    const state = meters.state() ?? { at, period: periodAt(at.wallMs, this.#lengthMs) };
    this.#ledger ??= new Ledger(state, meters.list(), { lengthMs: this.#lengthMs, serialOf });
    return this.#ledger;
  }

  #keep(id: string, ledger: Ledger): void {
    const { meters } = this.#parts.store;
    const meter = ledger.meter(id);
    if (meter === undefined) meters.remove(id);
    else meters.write(meter);
  }

  #tell(records: readonly UsageRecord[]): void {
    const { usageRecords } = this.#parts.store;
    for (const batch of batchesOf(records)) {
      const seq = this.#append(batch);
      for (const record of batch) usageRecords.insert(record, seq);
    }
    this.#tellAgain();
  }

  /** Events that had to go before they were acknowledged. */
  #tellAgain(): void {
    const { events, usageRecords } = this.#parts.store;
    const untold = usageRecords.untold(events.acknowledged(), events.firstSeq() ?? 0, RECORDS_PER_EVENT);
    if (untold.length === 0 || !this.#hasScheduler) return;
    const seq = this.#append(untold);
    for (const { id } of untold) usageRecords.setEvent(id, seq);
  }

  get #hasScheduler(): boolean {
    return this.#parts.hasScheduler || this.#parts.store.meta.get('last_contact_at') !== null;
  }

  #append(records: readonly UsageRecord[]): number {
    const { events } = this.#parts.store;
    events.append('usage.recorded', null, { records });
    return events.lastSeq();
  }

  #cleanUp(to: Point): void {
    const { store, settings, log, recordsLimit = RECORDS_LIMIT } = this.#parts;
    const { events, usageRecords } = store;
    const oldest = new Date(to.wallMs - settings.keepDays * DAY_MS).toISOString();
    const acknowledged = this.#hasScheduler ? events.acknowledged() : Number.MAX_SAFE_INTEGER;
    usageRecords.removeOld(oldest, acknowledged);
    const lost = usageRecords.removeBeyond(recordsLimit, acknowledged);
    if (lost === 0) return;
    events.append('usage.dropped', null, { records: lost, limit: recordsLimit });
    log.error({ lost, limit: recordsLimit }, 'USAGE RECORDS WERE LOST: nobody has fetched them for too long');
  }
}

function batchesOf(records: readonly UsageRecord[]): UsageRecord[][] {
  const count = Math.ceil(records.length / RECORDS_PER_EVENT);
  return Array.from({ length: count }, (_, index) =>
    records.slice(index * RECORDS_PER_EVENT, (index + 1) * RECORDS_PER_EVENT),
  );
}
