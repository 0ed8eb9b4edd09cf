/** What a meter has counted in a period → its record. Pure. */
import { USAGE_GAPS, type InstanceUsage, type UsageRecord, type VolumeUsage } from '../../model/usage.ts';
import type { Closed } from './ledger.ts';
import type { InstanceSums, Meter, VolumeSums } from './meter.ts';

const MS_PER_S = 1_000;
const NS_PER_S = 1_000_000_000;

/** @param id Made once: whoever is sent the record twice knows it by this. */
export function recordOf({ period, meter, endedAtMs }: Closed, id: string): UsageRecord {
  const { kind, facts } = meter;
  return {
    id,
    kind,
    objectId: facts.id,
    objectName: facts.name,
    periodStart: time(period.startMs),
    periodEnd: time(period.endMs),
    startedAt: time(meter.startedAtMs),
    endedAt: time(endedAtMs),
    existedSeconds: meter.existedMs / MS_PER_S,
    measuredFrom: time(meter.measuredFromMs),
    measuredUntil: time(meter.readAt.wallMs),
    instance: kind === 'instance' ? instanceUsage(meter.sums) : null,
    volume: kind === 'volume' ? volumeUsage(meter.sums) : null,
    incomplete: gapsOf(meter),
  };
}

function instanceUsage(sums: InstanceSums): InstanceUsage {
  return {
    allocatedVcpuSeconds: sums.allocatedVcpuMs / MS_PER_S,
    allocatedMemoryMibSeconds: sums.allocatedMemoryMibMs / MS_PER_S,
    runningSeconds: sums.runningMs / MS_PER_S,
    cpuSeconds: sums.cpuNs / NS_PER_S,
    residentMemoryMibSeconds: sums.residentMemoryMibMs / MS_PER_S,
    networkReceivedBytes: sums.receivedBytes,
    networkReceivedPackets: sums.receivedPackets,
    networkSentBytes: sums.sentBytes,
    networkSentPackets: sums.sentPackets,
  };
}

function volumeUsage({ provisionedGibMs, ...counts }: VolumeSums): VolumeUsage {
  const { readRequests, readBytes, writeRequests, writtenBytes } = counts;
  return {
    provisionedGibSeconds: provisionedGibMs / MS_PER_S,
    readRequests,
    readBytes,
    writeRequests,
    writtenBytes,
  };
}

function gapsOf({ gaps }: Meter): UsageRecord['incomplete'] {
  return USAGE_GAPS.flatMap((reason) => {
    const ms = gaps[reason];
    return ms === undefined ? [] : [{ reason, seconds: ms / MS_PER_S }];
  });
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
