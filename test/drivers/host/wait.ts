/** Waiting for a condition, with a bound. */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

const STEP_MS = 10;

/** Whether a process ends within `boundMs`; a zombie has ended. */
export async function isGone(pid: string, boundMs = 5000): Promise<boolean> {
  for (let waited = 0; ; waited += STEP_MS) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
    if (stat === null || stat.split(') ')[1]?.startsWith('Z')) return true;
    if (waited >= boundMs) return false;
    await delay(STEP_MS);
  }
}
