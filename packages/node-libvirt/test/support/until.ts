/** Waits until a condition holds, looking often; fails after ten seconds, or what is given. */
import { setTimeout as delay } from 'node:timers/promises';

const LIMIT_MS = 10_000;
const LOOK_MS = 5;

export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs = LIMIT_MS,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await delay(LOOK_MS);
  }
}
