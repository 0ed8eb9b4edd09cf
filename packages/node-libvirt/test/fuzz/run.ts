/**
 * What all fuzz tests share: how many cases, from which seed, and how a failing case is told so that it can be run
 * again alone.
 *
 * NLV_FUZZ_SEED repeats a run, NLV_FUZZ_CASES makes it longer or shorter, NLV_FUZZ_ONLY runs one case of it.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { caseSeed, Random } from './random.ts';

export interface Run {
  seed: number;
  cases: number;
  /** The index of the first case and of the one after the last. */
  from: number;
  to: number;
}

/** @param defaultCases How many without NLV_FUZZ_CASES. With it, each test takes its share. */
export function plannedRun(defaultCases: number, total: number): Run {
  const seed = numberFrom('NLV_FUZZ_SEED') ?? Date.now() % 0x7fff_ffff;
  const wanted = numberFrom('NLV_FUZZ_CASES');
  const cases = wanted === null ? defaultCases : Math.ceil((wanted * defaultCases) / total);
  const only = numberFrom('NLV_FUZZ_ONLY');
  return only === null ? { seed, cases, from: 0, to: cases } : { seed, cases: 1, from: only, to: only + 1 };
}

/** The chance that makes one case of a run. */
export function randomOf(run: Run, index: number): Random {
  return new Random(caseSeed(run.seed, index));
}

/** An error that says how to have it again. */
export function failure(run: Run, index: number, what: string, cause: unknown): Error {
  const again = `NLV_FUZZ_SEED=${run.seed} NLV_FUZZ_ONLY=${index}`;
  return new Error(`case ${index} (${again}): ${what}: ${String(cause)}`, { cause });
}

/** Bytes of the heap that are in use once everything that can be collected is. */
export function heapInUse(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function numberFrom(name: string): number | null {
  const text = process.env[name];
  if (text === undefined) return null;
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`${name} is no whole number: ${text}`);
  return number;
}
