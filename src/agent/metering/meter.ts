/**
 * Meters: how much of an object has been used since its last record, and where its counting stands. Plain data, kept in
 * the store as JSON.
 */
import type { PowerState } from '../../model/instance.ts';
import type { UsageGapReason } from '../../model/usage.ts';
import type { Source } from './counters.ts';
import type { Point } from './time.ts';

/** What is known of an instance from its row. */
export interface InstanceFacts {
  id: string;
  name: string;
  vcpus: number;
  memoryMib: number;
  power: PowerState;
  /** Metered from when it is ready, so that one that could not be made is in no record. */
  isReady: boolean;
}

/** What is known of a volume from its row. */
export interface VolumeFacts {
  id: string;
  name: string;
  sizeGib: number;
  instanceId: string | null;
  /** Deleted with its instance. */
  isOwned: boolean;
  isReady: boolean;
}

/** `unsure`: it was on when it was seen last. */
export type MeterPower = 'on' | 'off' | 'unsure';

interface MeterBase {
  /** Until when its amounts are added up, in metered milliseconds; the rest follows from what it has. */
  settledMs: number;
  /** From when the open record counts, by the calendar. */
  startedAtMs: number;
  existedMs: number;
  /** When it was deleted, by the calendar; null while it is there. */
  endedAtMs: number | null;
  /** The reading, by the calendar, that the open record begins behind. */
  measuredFromMs: number;
  /** When its counters were read last, or began. */
  readAt: Point;
  source: Source | null | 'unknown';
  /** Its guest, or its place in one, ended after the last reading. */
  hasEnded: boolean;
  gaps: Partial<Record<UsageGapReason, number>>;
}

export interface InstanceSums {
  [name: string]: number;
  allocatedVcpuMs: number;
  allocatedMemoryMibMs: number;
  runningMs: number;
  residentMemoryMibMs: number;
  cpuNs: number;
  receivedBytes: number;
  receivedPackets: number;
  sentBytes: number;
  sentPackets: number;
}

export interface VolumeSums {
  [name: string]: number;
  provisionedGibMs: number;
  readRequests: number;
  readBytes: number;
  writeRequests: number;
  writtenBytes: number;
}

export interface InstanceMeter extends MeterBase {
  kind: 'instance';
  facts: InstanceFacts;
  power: MeterPower;
  /** It was off when it was seen last, at `readAt`, and may have been started since. */
  isUnwatched: boolean;
  /** Time in which it is not yet known whether it was on. */
  unsureMs: number;
  sums: InstanceSums;
}

export interface VolumeMeter extends MeterBase {
  kind: 'volume';
  facts: VolumeFacts;
  sums: VolumeSums;
}

export type Meter = InstanceMeter | VolumeMeter;

/** Whether an object that is seen for the first time was made just now. */
export type Origin = 'born' | 'late';

export function newInstanceMeter(facts: InstanceFacts, at: Point, origin: Origin): InstanceMeter {
  const power = powerOf(facts.power, 'off');
  const begun = { ...base(at, origin), isUnwatched: false, unsureMs: 0 };
  return { ...begun, kind: 'instance', facts, power, sums: noInstanceSums() };
}

export function newVolumeMeter(facts: VolumeFacts, at: Point, origin: Origin): VolumeMeter {
  return { ...base(at, origin), kind: 'volume', facts, sums: noVolumeSums() };
}

export function noInstanceSums(): InstanceSums {
  return {
    allocatedVcpuMs: 0,
    allocatedMemoryMibMs: 0,
    runningMs: 0,
    residentMemoryMibMs: 0,
    cpuNs: 0,
    receivedBytes: 0,
    receivedPackets: 0,
    sentBytes: 0,
    sentPackets: 0,
  };
}

export function noVolumeSums(): VolumeSums {
  return { provisionedGibMs: 0, readRequests: 0, readBytes: 0, writeRequests: 0, writtenBytes: 0 };
}

/** Where the host can't be asked, one that was off is taken for off; one that was on may have ended. */
export function powerOf(state: PowerState, before: MeterPower): MeterPower {
  if (state === 'stopped' || state === 'crashed') return 'off';
  if (state === 'unknown') return before === 'off' ? 'off' : 'unsure';
  return before === 'unsure' ? 'unsure' : 'on';
}

/** More of a gap; one without a known length is told by its reason alone. */
export function addGap(meter: Meter, reason: UsageGapReason, ms: number): void {
  meter.gaps[reason] = (meter.gaps[reason] ?? 0) + Math.max(0, ms);
}

/** Begins the next record at this calendar time; where counting stands is kept. */
export function renew(meter: Meter, atMs: number): void {
  meter.startedAtMs = atMs;
  meter.existedMs = 0;
  meter.measuredFromMs = meter.readAt.wallMs;
  meter.gaps = {};
  if (meter.kind === 'instance') meter.sums = noInstanceSums();
  else meter.sums = noVolumeSums();
}

/** Whether there is anything that a record would tell. */
export function hasSomething({ existedMs, sums, gaps }: Meter): boolean {
  return existedMs > 0 || Object.values(sums).some((sum) => sum > 0) || Object.keys(gaps).length > 0;
}

/** The process that was read last. */
export function processOf({ source }: Meter): string | null {
  return source === null || source === 'unknown' ? null : source.process;
}

/** Adds what goes by time alone; call it before what the meter has changes. */
export function addTime(meter: Meter, ms: number): void {
  meter.existedMs += ms;
  if (meter.kind === 'volume') {
    meter.sums.provisionedGibMs += ms * meter.facts.sizeGib;
    return;
  }
  meter.sums.allocatedVcpuMs += ms * meter.facts.vcpus;
  meter.sums.allocatedMemoryMibMs += ms * meter.facts.memoryMib;
  if (meter.power === 'on') meter.sums.runningMs += ms;
  if (meter.power === 'unsure') meter.unsureMs += ms;
}

function base(at: Point, origin: Origin): MeterBase {
  return {
    settledMs: at.meteredMs,
    startedAtMs: at.wallMs,
    existedMs: 0,
    endedAtMs: null,
    measuredFromMs: at.wallMs,
    readAt: at,
    source: origin === 'born' ? null : 'unknown',
    hasEnded: false,
    gaps: origin === 'born' ? {} : { 'began-late': 0 },
  };
}
