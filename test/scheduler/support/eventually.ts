/** Waiting for a condition, with a bound. */
import { setImmediate as turn } from 'node:timers/promises';

/** Milliseconds after which a condition that should come true soon counts as failed. */
const BOUND_MS = 30_000;

/** Resolves with what `read` answers as soon as that is neither null, undefined nor false. */
export async function eventually<T>(
  read: () => T | Promise<T>,
): Promise<Exclude<T, null | undefined | false>> {
  const giveUpAt = performance.now() + BOUND_MS;
  for (;;) {
    const value = await read();
    if (value !== null && value !== undefined && value !== false) {
      return value as Exclude<T, null | undefined | false>;
    }
    if (performance.now() > giveUpAt) throw new Error(`not true within ${BOUND_MS} ms: ${read}`);
    await turn();
  }
}
