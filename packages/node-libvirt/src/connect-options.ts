/**
 * Checks the options of `connect` that no other module checks, before anything is opened. Without it a keepalive interval
 * of 'x' would be one of 1 ms, and a `random` that is no function would only be noticed at the first reconnection.
 */
import type { ConnectOptions } from './connect.ts';
import { LibvirtUsageError } from './errors.ts';
import { checkedOptions, checkedSignal, TIMER_MAX_MS } from './limits.ts';
import { shown } from './xdr/argument-error.ts';

/** @throws {LibvirtUsageError} */
export function checkConnectOptions(options: ConnectOptions): void {
  const { keepalive, reconnect, readOnly, random, signal } = checkedOptions(options);
  if (readOnly !== undefined && typeof readOnly !== 'boolean') throw wrong('readOnly', 'a boolean', readOnly);
  if (random !== undefined && typeof random !== 'function') throw wrong('random', 'a function', random);
  checkedSignal(signal);
  checkNumbers('keepalive', keepalive, { intervalMs: [1, TIMER_MAX_MS], count: [1, Infinity] });
  checkNumbers('reconnect', reconnect, { initialMs: [0, TIMER_MAX_MS], maxMs: [0, TIMER_MAX_MS] });
}

/** Defaults with what is given in their place; what is given as undefined is not given. */
export function withDefaults<T extends object>(defaults: T, given: Partial<T> | undefined): T {
  const values = Object.entries(given ?? {}).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(values) };
}

type Range = readonly [min: number, max: number];

/** A group of numbers, of which each may be left out; or false. */
function checkNumbers(name: string, group: unknown, ranges: Readonly<Record<string, Range>>): void {
  if (group === undefined || group === false) return;
  if (typeof group !== 'object' || group === null) throw wrong(name, 'an object or false', group);
  for (const [key, [min, max]] of Object.entries(ranges)) {
    const value = (group as Record<string, unknown>)[key];
    const isRight = typeof value === 'number' && value >= min && value <= max;
    if (value !== undefined && !isRight)
      throw wrong(`${name}.${key}`, `a number from ${min}${max < Infinity ? ` to ${max}` : ''}`, value);
  }
}

function wrong(name: string, expected: string, value: unknown): LibvirtUsageError {
  return new LibvirtUsageError(`${name} must be ${expected}, got ${shown(value)}`);
}
