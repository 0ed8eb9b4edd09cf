/**
 * Small words for checks: the three verdicts, and looks at files that may not be there.
 */
import { access, readFile } from 'node:fs/promises';
import type { Finding } from '../../model/node.ts';

export function ok(check: string, message: string): Finding {
  return { check, verdict: 'ok', message, mend: null };
}

export function warning(check: string, message: string, mend: string | null): Finding {
  return { check, verdict: 'warning', message, mend };
}

export function failure(check: string, message: string, mend: string): Finding {
  return { check, verdict: 'failure', message, mend };
}

/** Whether the agent may use a path so. @param mode Of access(2), such as `constants.X_OK`. */
export async function may(path: string, mode: number): Promise<boolean> {
  return await access(path, mode).then(
    () => true,
    () => false,
  );
}

/** The text of a file; null where there is none. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
