/**
 * How full the pool really is, in levels. Pure.
 *
 * Thin volumes may be promised more than there is (`capacity.diskRatio`), and others may write to the same file system:
 * so it is the free room itself that warns, and that keeps new volumes from being made before guests stand still. A
 * level that was reached is left only HYSTERESIS_PERCENT below its threshold, so that a pool that swings around it
 * warns once.
 */
import type { PoolCapacity } from '../../drivers/contracts/storage.ts';
import type { RoomLevel } from '../../model/node.ts';

/** Percent of the pool. */
const HYSTERESIS_PERCENT = 3;

/** Percent of the pool that is used; 100 for never. */
export interface RoomThresholds {
  poolWarningPercent: number;
  poolCriticalPercent: number;
}

/** Percent, rounded down to tenths. */
export function usedPercent({ totalBytes, availableBytes }: PoolCapacity): number {
  if (totalBytes === 0) return 0;
  return Math.floor((1000 * (totalBytes - availableBytes)) / totalBytes) / 10;
}

export function roomLevel(before: RoomLevel, percent: number, thresholds: RoomThresholds): RoomLevel {
  const { poolWarningPercent, poolCriticalPercent } = thresholds;
  const reaches = (threshold: number, wasReached: boolean) =>
    threshold < 100 && percent >= threshold - (wasReached ? HYSTERESIS_PERCENT : 0);
  if (reaches(poolCriticalPercent, before === 'critical')) return 'critical';
  return reaches(poolWarningPercent, before !== 'ok') ? 'warning' : 'ok';
}
