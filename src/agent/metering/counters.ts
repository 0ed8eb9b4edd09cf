/**
 * From counters that begin anew with each process to amounts that are counted once. Pure.
 *
 * A reading is compared with the one before it of the same process; of another process all is new. A counter that is
 * lower than before, in one process, began anew: its device was taken out and plugged in again.
 */

/** Amounts by name, as decimal texts: they outgrow what a number holds exactly. */
export type Reading = Record<string, string>;

/** What was read last. */
export interface Source {
  process: string;
  /** By device; the guest itself is `''`. */
  readings: Record<string, Reading>;
}

/** Amounts that were used since the reading before. */
export type Amounts = Record<string, number>;

export interface Reckoned {
  source: Source;
  used: Amounts;
  /** Whether a counter of the same process has begun anew. */
  hasRestarted: boolean;
}

/**
 * @param before Null: nothing was read of it yet, and its counters began with it. `unknown`: they may have begun long
 *   before, so that the first reading is where counting begins.
 * @param readings A device that is not among them was not read, and keeps its last reading.
 */
export function reckon(
  before: Source | null | 'unknown',
  process: string,
  readings: Record<string, Reading>,
): Reckoned {
  if (before === 'unknown') return { source: { process, readings }, used: {}, hasRestarted: false };
  const known = before?.process === process ? before.readings : {};
  const used: Amounts = {};
  let hasRestarted = false;
  for (const [device, reading] of Object.entries(readings)) {
    const last = Object.hasOwn(known, device) ? known[device] : undefined;
    const isNew = last === undefined || isLower(reading, last);
    hasRestarted ||= isNew && last !== undefined;
    for (const [name, value] of Object.entries(reading)) {
      const past = isNew ? 0n : BigInt(last[name] ?? 0);
      used[name] = (used[name] ?? 0) + Number(BigInt(value) - past);
    }
  }
  return { source: { process, readings: { ...known, ...readings } }, used, hasRestarted };
}

/** Whether any of its counters is: those of a device begin anew together. */
function isLower(reading: Reading, last: Reading): boolean {
  return Object.entries(reading).some(([name, value]) => BigInt(value) < BigInt(last[name] ?? 0));
}

export function addAmounts<T extends Amounts>(sums: T, used: Amounts): void {
  for (const [name, amount] of Object.entries(used)) {
    Object.assign(sums, { [name]: (sums[name] ?? 0) + amount });
  }
}

export function toReading(counters: object): Reading {
  return Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, String(value)]));
}
