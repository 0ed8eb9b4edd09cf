/** Waits until a condition holds, looking often. */
import { setTimeout as delay } from 'node:timers/promises';

const LOOK_MS = 10;

/** @throws {Error} not within `boundMs` */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  boundMs: number,
): Promise<void> {
  const deadline = performance.now() + boundMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${boundMs} ms: ${what}`);
    await delay(LOOK_MS);
  }
}
