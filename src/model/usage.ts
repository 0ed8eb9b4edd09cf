/**
 * Usage records: what each instance and volume has used in a period, counted once.
 */
import { Id, nullable, strict, timestampOf } from './common.ts';
import { type Static, Type } from './schema.ts';

export const USAGE_KINDS = ['instance', 'volume'] as const;
export type UsageKind = (typeof USAGE_KINDS)[number];

/** Why a record may hold less than was used; each says in its `seconds` of how much time that is so at most. */
export const USAGE_GAPS = [
  /** It was there before it was metered: what it used until then is in no record of this database. */
  'began-late',
  /** Its guest ended, or let go of the disk, that long after the last reading: what it used then is in no record. */
  'end-not-read',
  /** The host could not be asked for that long: what was used in that time is in a later record. */
  'not-read',
  /** Nobody knows whether the guest ran in that time: it is not in `runningSeconds`. */
  'unobserved',
  /** A counter began anew that long after the last reading: what was used between is in no record. */
  'counter-restarted',
  /** The clock of the host was set by that much: the times are the clock's, the amounts are right. */
  'clock-changed',
] as const;
export type UsageGapReason = (typeof USAGE_GAPS)[number];

export const UsageGap = strict({
  reason: Type.Enum([...USAGE_GAPS]),
  seconds: Type.Number({ minimum: 0, description: '0 where it cannot be told' }),
});
export type UsageGap = Static<typeof UsageGap>;

const seconds = (description: string) => Type.Number({ minimum: 0, description });
const count = (description: string) => Type.Integer({ minimum: 0, description });

export const InstanceUsage = strict({
  allocatedVcpuSeconds: seconds('vCPUs that it had, times the seconds it had them, whether or not it ran'),
  allocatedMemoryMibSeconds: seconds('MiB of memory that it had, times the seconds it had them'),
  runningSeconds: seconds('seconds in which its guest was on: running, paused or coming down'),
  cpuSeconds: seconds('CPU seconds of the host that its guest took, to the nanosecond'),
  residentMemoryMibSeconds: seconds('MiB of the host that its guest held, sampled, times the seconds'),
  networkReceivedBytes: count('bytes that the guest received'),
  networkReceivedPackets: count('packets that the guest received'),
  networkSentBytes: count('bytes that the guest sent'),
  networkSentPackets: count('packets that the guest sent'),
});
export type InstanceUsage = Static<typeof InstanceUsage>;

export const VolumeUsage = strict({
  provisionedGibSeconds: seconds('GiB of its size, times the seconds it had it; times 2^30: byte-seconds'),
  readRequests: count('read requests of guests'),
  readBytes: count('bytes that guests read'),
  writeRequests: count('write requests of guests'),
  writtenBytes: count('bytes that guests wrote'),
});
export type VolumeUsage = Static<typeof VolumeUsage>;

export const UsageRecord = strict({
  id: Id,
  kind: Type.Enum([...USAGE_KINDS]),
  objectId: Id,
  objectName: Type.String({ description: 'name that it had last' }),
  periodStart: timestampOf('begin of the period, aligned to UTC'),
  periodEnd: timestampOf('end of the period'),
  startedAt: timestampOf('from when it was there in the period'),
  endedAt: timestampOf('until when it was there in the period'),
  existedSeconds: seconds('seconds between the two, by a clock that nobody sets'),
  measuredFrom: timestampOf('reading of the counters before the first that is in here'),
  measuredUntil: timestampOf('last reading of the counters that is in here'),
  instance: nullable(InstanceUsage),
  volume: nullable(VolumeUsage),
  incomplete: Type.Array(UsageGap, { description: 'why it may hold too little; empty for complete' }),
});
export type UsageRecord = Static<typeof UsageRecord>;
