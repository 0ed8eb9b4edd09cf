/**
 * All meters of a node at one point of time: what changes and readings make of them. No I/O and no clock.
 *
 * ```
 *   off ─▶ on ──────────────▶ off      what it used after its last reading is `end-not-read`
 *    │      │ nobody watches    ▲
 *    │      ▼                   │
 *    │    unsure ───────────────┘      a reading of the same process proves that it ran; of another one, or none, and
 *    └─ unwatched ─▶ on                it is `unobserved`
 * ```
 */
import type { DiskCounters, GuestUsage } from '../../drivers/contracts/hypervisor.ts';
import { addAmounts, type Reading, reckon, toReading } from './counters.ts';
import {
  addGap,
  addTime,
  hasSomething,
  type InstanceFacts,
  type InstanceMeter,
  type Meter,
  newInstanceMeter,
  newVolumeMeter,
  type Origin,
  powerOf,
  processOf,
  renew,
  type VolumeFacts,
  type VolumeMeter,
} from './meter.ts';
import type { Period, Point } from './time.ts';

/** How long after the end of a period a reading still belongs to it, milliseconds. */
export const BORDER_GRACE_MS = 5_000;

export type Change = { at: Point } & (
  | { type: 'instance'; id: string; origin: Origin; facts: InstanceFacts | null; volumes: VolumeFacts[] }
  | { type: 'volume'; id: string; origin: Origin; facts: VolumeFacts | null }
  /** From here on nobody watched, until now. */
  | { type: 'blind' }
);

/** A meter as it was when its period ended. */
export interface Closed {
  period: Period;
  meter: Meter;
  endedAtMs: number;
}

export class Meters {
  readonly #meters: Map<string, Meter>;
  /** Serials of volumes, by which the host knows them. */
  readonly #serialOf: (volumeId: string) => string;
  readonly #touched = new Set<string>();
  #at: Point;

  constructor(meters: Iterable<Meter>, at: Point, serialOf: (volumeId: string) => string) {
    this.#meters = new Map(Array.from(meters, (meter) => [meter.facts.id, meter]));
    this.#at = at;
    this.#serialOf = serialOf;
  }

  get at(): Point {
    return this.#at;
  }

  get(id: string): Meter | undefined {
    return this.#meters.get(id);
  }

  ids(): Iterable<string> {
    return this.#meters.keys();
  }

  /** Whether any guest may be on, so that there is something to read. */
  get isAnyOn(): boolean {
    return this.#instances().some(({ power }) => power !== 'off');
  }

  /** Ids of meters that have changed or gone; each is told once. */
  takeTouched(): string[] {
    const touched = [...this.#touched];
    this.#touched.clear();
    return touched;
  }

  /** Time has passed until here. */
  moveTo(at: Point): void {
    this.#at = at;
  }

  /** Adds up what every meter has had until now. */
  settle(): void {
    for (const meter of this.#meters.values()) this.#settle(meter);
  }

  /** What has changed at this point. */
  apply(change: Change): void {
    if (change.type === 'blind') this.#lookAway();
    else if (change.type === 'volume') this.#changeVolume(change.id, change.facts, change.origin);
    else if (change.facts === null) this.#endInstance(change.id);
    else this.#changeInstance(change.facts, change.origin, change.volumes);
  }

  /**
   * What all running guests have used, read at this point.
   *
   * @param changing Ids of what changes between this point and the reading: that one was off is not told by it.
   */
  count(usages: readonly GuestUsage[], changing: ReadonlySet<string>): void {
    const meters = [...this.#meters.values()].filter((meter) => meter.kind === 'volume');
    const volumes = Map.groupBy(meters, ({ facts }) => facts.instanceId);
    for (const usage of usages) {
      this.#count(usage);
      for (const volume of volumes.get(usage.id) ?? []) this.#countDisk(volume, usage);
    }
    this.#noteSeen(new Set([...usages.map(({ id }) => id), ...changing]));
  }

  /** Objects that are there and have no meter, and meters whose objects are gone without a word. */
  reconcile(instances: readonly InstanceFacts[], volumes: readonly VolumeFacts[]): void {
    const there = new Set([...instances, ...volumes].map(({ id }) => id));
    for (const facts of instances) if (!this.#meters.has(facts.id)) this.#changeInstance(facts, 'late', null);
    for (const facts of volumes) if (!this.#meters.has(facts.id)) this.#changeVolume(facts.id, facts, 'late');
    for (const meter of this.#meters.values()) {
      if (there.has(meter.facts.id) || meter.endedAtMs !== null) continue;
      if (meter.kind === 'instance') this.#endInstance(meter.facts.id);
      else this.#end(meter);
    }
  }

  /** The clock of the host was set by so much. */
  noteClock(setByMs: number): void {
    for (const meter of this.#metered()) {
      this.#settle(meter);
      addGap(meter, 'clock-changed', setByMs);
    }
  }

  /** Nothing was there before this point. */
  beginHere(): void {
    for (const meter of this.#metered()) {
      this.#settle(meter);
      meter.startedAtMs = Math.max(meter.startedAtMs, this.#at.wallMs);
    }
  }

  /** Ends a period: what each meter has counted in it; they begin anew. */
  close(period: Period): Closed[] {
    const closed: Closed[] = [];
    for (const meter of this.#meters.values()) {
      this.#settle(meter);
      this.#noteUnread(meter);
      const isThere = meter.facts.isReady && hasSomething(meter);
      const endedAtMs = meter.endedAtMs ?? period.endMs;
      if (isThere) closed.push({ period, endedAtMs, meter: structuredClone(meter) });
      if (meter.endedAtMs !== null) this.#meters.delete(meter.facts.id);
      else if (isThere) renew(meter, period.endMs);
    }
    return closed;
  }

  /** Adds up what a meter has had until now; before anything of it changes. */
  #settle(meter: Meter): void {
    const passedMs = this.#at.meteredMs - meter.settledMs;
    meter.settledMs = this.#at.meteredMs;
    if (passedMs > 0 && meter.facts.isReady && meter.endedAtMs === null) addTime(meter, passedMs);
    this.#touched.add(meter.facts.id);
  }

  /** Those of objects that are there and ready. */
  #metered(): Meter[] {
    return [...this.#meters.values()].filter(({ facts, endedAtMs }) => facts.isReady && endedAtMs === null);
  }

  #instances(): InstanceMeter[] {
    return [...this.#meters.values()].filter((meter) => meter.kind === 'instance');
  }

  #volumesOf(instanceId: string): VolumeMeter[] {
    return [...this.#meters.values()].filter(
      (meter): meter is VolumeMeter => meter.kind === 'volume' && meter.facts.instanceId === instanceId,
    );
  }

  #changeInstance(facts: InstanceFacts, origin: Origin, volumes: readonly VolumeFacts[] | null): void {
    const known = this.#meters.get(facts.id);
    const birth = facts.isReady ? origin : 'born';
    const meter = known?.kind === 'instance' ? known : newInstanceMeter(facts, this.#at, birth);
    this.#settle(meter);
    if (!meter.facts.isReady && facts.isReady) meter.startedAtMs = this.#at.wallMs;
    meter.facts = facts;
    this.#meters.set(facts.id, meter);
    this.#setPower(meter, powerOf(facts.power, meter.power));
    if (volumes === null) return;
    for (const volume of volumes) this.#changeVolume(volume.id, volume, origin);
    const has = new Set(volumes.map(({ id }) => id));
    for (const volume of this.#volumesOf(facts.id)) if (!has.has(volume.facts.id)) this.#detach(volume);
  }

  #setPower(meter: InstanceMeter, power: InstanceMeter['power']): void {
    const { power: before, facts } = meter;
    this.#settle(meter);
    meter.power = power;
    if (facts.power === 'unknown') this.#unwatch(meter);
    if (before === power) return;
    if (before === 'off') this.#begin(meter);
    else if (power === 'off') this.#stop(meter, before);
  }

  #stop(meter: InstanceMeter, before: InstanceMeter['power']): void {
    if (before === 'unsure') this.#refute(meter);
    this.#loseEnd(meter);
    for (const volume of this.#volumesOf(meter.facts.id)) this.#loseEnd(volume);
  }

  /** Its counters begin with its process, which may have begun when nobody watched. */
  #begin(meter: InstanceMeter): void {
    if (meter.isUnwatched) {
      meter.isUnwatched = false;
      this.#noteUnobserved(meter);
      return;
    }
    for (const each of [meter, ...this.#volumesOf(meter.facts.id)]) {
      this.#settle(each);
      each.readAt = this.#at;
    }
  }

  /** It runs, and since when nobody knows. */
  #noteUnobserved(meter: InstanceMeter): void {
    this.#settle(meter);
    addGap(meter, 'unobserved', this.#at.meteredMs - meter.readAt.meteredMs);
  }

  /** One that is off may be started from here on without a word. */
  #unwatch(meter: InstanceMeter): void {
    if (meter.power !== 'off' || meter.isUnwatched) return;
    meter.isUnwatched = true;
    for (const each of [meter, ...this.#volumesOf(meter.facts.id)]) {
      this.#settle(each);
      each.readAt = this.#at;
    }
  }

  /** What was used since the last reading is known to nobody. */
  #loseEnd(meter: Meter): void {
    this.#settle(meter);
    const ms = this.#at.meteredMs - meter.readAt.meteredMs;
    if (ms > 0) addGap(meter, 'end-not-read', ms);
    meter.readAt = this.#at;
    meter.hasEnded = true;
  }

  #refute(meter: InstanceMeter): void {
    this.#settle(meter);
    addGap(meter, 'unobserved', meter.unsureMs);
    meter.unsureMs = 0;
  }

  #endInstance(id: string): void {
    const meter = this.#meters.get(id);
    if (meter?.kind !== 'instance') return;
    this.#setPower(meter, 'off');
    for (const volume of this.#volumesOf(id)) {
      if (volume.facts.isOwned) this.#end(volume);
      else this.#detach(volume);
    }
    this.#end(meter);
  }

  #changeVolume(id: string, facts: VolumeFacts | null, origin: Origin): void {
    const known = this.#meters.get(id);
    if (facts === null) {
      if (known !== undefined) this.#end(known);
    } else if (known?.kind === 'volume') this.#changeKnownVolume(known, facts);
    else {
      const birth = facts.isReady ? origin : 'born';
      const meter = newVolumeMeter(facts, this.#at, birth);
      this.#meters.set(id, meter);
      this.#settle(meter);
    }
  }

  #changeKnownVolume(known: VolumeMeter, facts: VolumeFacts): void {
    this.#settle(known);
    if (!known.facts.isReady && facts.isReady) known.startedAtMs = this.#at.wallMs;
    if (known.facts.instanceId !== null && known.facts.instanceId !== facts.instanceId) this.#detach(known);
    if (known.facts.instanceId === null && facts.instanceId !== null) this.#attach(known);
    known.facts = facts;
  }

  /** Its counters begin anew with the guest that gets it. */
  #attach(volume: VolumeMeter): void {
    volume.source = null;
    volume.readAt = this.#at;
  }

  #detach(volume: VolumeMeter): void {
    this.#settle(volume);
    const { instanceId } = volume.facts;
    const instance = instanceId === null ? undefined : this.#meters.get(instanceId);
    if (instance?.kind === 'instance' && instance.power !== 'off') this.#loseEnd(volume);
    volume.facts = { ...volume.facts, instanceId: null };
    volume.source = null;
  }

  #end(meter: Meter): void {
    this.#settle(meter);
    meter.endedAtMs ??= this.#at.wallMs;
  }

  /** Whether those that were on stayed so is not known until they are read. */
  #lookAway(): void {
    for (const meter of this.#instances()) {
      this.#settle(meter);
      this.#unwatch(meter);
      if (meter.power === 'on') meter.power = 'unsure';
    }
  }

  /** Those that are off, and do not run, were seen. */
  #noteSeen(others: ReadonlySet<string>): void {
    for (const meter of this.#instances()) {
      if (!meter.isUnwatched || others.has(meter.facts.id)) continue;
      this.#settle(meter);
      meter.isUnwatched = false;
    }
  }

  #count(usage: GuestUsage): void {
    const meter = this.#meters.get(usage.id);
    if (meter?.kind !== 'instance' || meter.endedAtMs !== null) return;
    const isSame = processOf(meter) === usage.process;
    if (meter.power === 'unsure') this.#resolve(meter, isSame);
    if (meter.isUnwatched) this.#noteUnobserved(meter);
    if (isSame) this.#addResident(meter, usage.residentMib);
    this.#reckon(meter, usage.process, instanceReadings(usage));
  }

  /** The process of before has run all the time; of another one nobody knows since when it does. */
  #resolve(meter: InstanceMeter, isSame: boolean): void {
    this.#settle(meter);
    if (isSame) meter.sums.runningMs += meter.unsureMs;
    else {
      this.#refute(meter);
      this.#loseEnd(meter);
      for (const volume of this.#volumesOf(meter.facts.id)) this.#loseEnd(volume);
    }
    meter.unsureMs = 0;
    meter.power = 'on';
  }

  #addResident(meter: InstanceMeter, residentMib: number | null): void {
    const ms = this.#at.meteredMs - meter.readAt.meteredMs;
    if (residentMib !== null && ms > 0) meter.sums.residentMemoryMibMs += residentMib * ms;
  }

  #countDisk(volume: VolumeMeter, { process, disks }: GuestUsage): void {
    const counters: DiskCounters | undefined = disks.get(this.#serialOf(volume.facts.id));
    if (counters === undefined || volume.endedAtMs !== null) return;
    this.#reckon(volume, process, { '': toReading(counters) });
  }

  #reckon(meter: Meter, process: string, readings: Record<string, Reading>): void {
    this.#settle(meter);
    const before = processOf(meter);
    if (before !== null && before !== process && !meter.hasEnded) this.#loseEnd(meter);
    const { source, used, hasRestarted } = reckon(meter.source, process, readings);
    addAmounts<Record<string, number>>(meter.sums, used);
    const ms = this.#at.meteredMs - meter.readAt.meteredMs;
    if (hasRestarted) addGap(meter, 'counter-restarted', ms);
    meter.source = source;
    meter.hasEnded = false;
    meter.readAt = this.#at;
  }

  /** What it used since the last reading comes with a later record. */
  #noteUnread(meter: Meter): void {
    const instanceId = meter.kind === 'instance' ? meter.facts.id : meter.facts.instanceId;
    const instance = instanceId === null ? undefined : this.#meters.get(instanceId);
    if (meter.endedAtMs !== null) return;
    if (instance?.kind !== 'instance' || (instance.power === 'off' && !instance.isUnwatched)) {
      meter.readAt = this.#at; // nothing has used it since
      return;
    }
    const ms = this.#at.meteredMs - meter.readAt.meteredMs;
    if (ms > BORDER_GRACE_MS) addGap(meter, 'not-read', ms);
  }
}

function instanceReadings({ cpuNs, nics }: GuestUsage): Record<string, Reading> {
  const readings: Record<string, Reading> = {};
  if (cpuNs !== null) readings[''] = { cpuNs: String(cpuNs) };
  for (const [tap, counters] of nics) readings[tap] = toReading(counters);
  return readings;
}
