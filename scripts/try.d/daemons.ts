/**
 * The two daemons of the trial: started apart from this process, found again by their pid files.
 *
 * A pid counts only while its process has our own command line, since numbers are given again.
 */
import { spawn } from 'node:child_process';
import { openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONFIG, ROOT, SCHEDULER_PORT, STATE, TOKEN } from './places.ts';
import { until } from './progress.ts';

/** Seconds that a daemon has to stop in order. */
const STOP_SECONDS = 30;

const DAEMONS = {
  'berth-scheduler': [
    'bin/berth-scheduler',
    '--listen',
    `127.0.0.1:${SCHEDULER_PORT}`,
    '--state-dir',
    join(STATE, 'scheduler'),
    '--token-file',
    TOKEN,
  ],
  berthd: ['bin/berthd', '--config', CONFIG],
} as const;
export type Daemon = keyof typeof DAEMONS;

export function logOf(daemon: Daemon): string {
  return join(STATE, `${daemon}.log`);
}

/** Starts it unless it runs already. */
export function start(daemon: Daemon): void {
  if (pidOf(daemon) !== null) return;
  const log = openSync(logOf(daemon), 'a');
  const [program, ...args] = DAEMONS[daemon];
  const child = spawn(join(ROOT, program), args, {
    detached: true,
    stdio: ['ignore', log, log],
  });
  child.unref();
  writeFileSync(pidFile(daemon), String(child.pid));
}

export async function stop(daemon: Daemon): Promise<void> {
  const pid = pidOf(daemon);
  if (pid !== null) {
    process.kill(pid, 'SIGTERM');
    await until(`${daemon} stops`, STOP_SECONDS, async () => (pidOf(daemon) === null ? true : null));
  }
  rmSync(pidFile(daemon), { force: true });
}

export function pidOf(daemon: Daemon): number | null {
  try {
    const pid = Number(readFileSync(pidFile(daemon), 'utf8'));
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return DAEMONS[daemon].slice(1).every((argument) => commandLine.includes(argument)) ? pid : null;
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}

function pidFile(daemon: Daemon): string {
  return join(STATE, `${daemon}.pid`);
}
