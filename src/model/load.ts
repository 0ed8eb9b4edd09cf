/**
 * What a node really uses, beside what is claimed of it: in levels that change seldom, and in figures for who asks.
 */
import { nullable, strict, Timestamp } from './common.ts';
import { type Static, Type } from './schema.ts';

export const LOAD_LEVELS = ['low', 'medium', 'high'] as const;
export type LoadLevel = (typeof LOAD_LEVELS)[number];

/** Percent from which on it is medium, and high. */
const THRESHOLDS = {
  /** Of the CPUs' time that was used, the host's own included. */
  cpu: { medium: 50, high: 85 },
  /** Of the time that was given to other machines on the hardware below: guests of a host that is one itself stand still. */
  steal: { medium: 2, high: 10 },
  /** Of the memory that nobody can be given without taking it from another. */
  memory: { medium: 80, high: 95 },
} as const;
/** A level that was reached is left so much of its threshold below it: what swings around it is told once. */
const HYSTERESIS = 0.15;

export const LoadLevels = strict({
  cpu: Type.Enum([...LOAD_LEVELS]),
  steal: Type.Enum([...LOAD_LEVELS], {
    description: 'time of the CPUs that the hardware below gave to others',
  }),
  memory: Type.Enum([...LOAD_LEVELS]),
});
export type LoadLevels = Static<typeof LoadLevels>;
export type LoadPercents = Record<keyof LoadLevels, number>;

export const NO_LOAD: LoadLevels = { cpu: 'low', steal: 'low', memory: 'low' };

/** Pure. @param before As they were told last. */
export function loadLevels(before: LoadLevels, percents: LoadPercents): LoadLevels {
  const level = (name: keyof LoadLevels) => levelOf(THRESHOLDS[name], before[name], percents[name]);
  return { cpu: level('cpu'), steal: level('steal'), memory: level('memory') };
}

function levelOf(
  thresholds: Record<'medium' | 'high', number>,
  before: LoadLevel,
  percent: number,
): LoadLevel {
  const reaches = (threshold: number, wasReached: boolean) =>
    percent >= threshold * (wasReached ? 1 - HYSTERESIS : 1);
  if (reaches(thresholds.high, before === 'high')) return 'high';
  return reaches(thresholds.medium, before !== 'low') ? 'medium' : 'low';
}

const Percent = Type.Number({ minimum: 0, maximum: 100, description: 'percent, to tenths' });

export const NodeLoad = strict({
  at: Timestamp,
  seconds: Type.Number({ minimum: 0, description: 'seconds before `at` that the shares of CPU time are of' }),
  cpu: strict({
    busyPercent: Percent,
    iowaitPercent: Percent,
    stealPercent: Percent,
    averages: Type.Array(Type.Number(), {
      minItems: 3,
      maxItems: 3,
      description: 'processes that ran or waited, mean of 1, 5 and 15 minutes',
    }),
  }),
  memory: strict({
    totalMib: Type.Integer(),
    availableMib: Type.Integer({ description: 'MiB that can be given without taking them from anyone' }),
    usedPercent: Percent,
    swapUsedMib: Type.Integer(),
  }),
  pools: Type.Array(
    strict({
      name: Type.String(),
      totalBytes: Type.Integer(),
      availableBytes: Type.Integer(),
      measuredAt: nullable(Timestamp),
    }),
    { description: 'those that were measured, as they were last' },
  ),
  levels: LoadLevels,
});
export type NodeLoad = Static<typeof NodeLoad>;
