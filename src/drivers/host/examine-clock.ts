/**
 * Is the clock right? Asked of whoever keeps it: timedated, chronyd, timesyncd, in this order.
 *
 * A wrong clock breaks TLS, tokens and the order of events, so "nobody here can tell" is a warning too.
 */
import { constants } from 'node:fs';
import { AgentError } from '../../model/errors.ts';
import type { Finding } from '../../model/node.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallLimit } from './call-limit.ts';
import { type Exec, ProcessError } from './exec.ts';
import { failure, may, ok, warning } from './findings.ts';

/** No host runs this version earlier: a clock that says so has lost its battery. */
const EARLIEST_MS = Date.UTC(2026, 0, 1);
/** Time services answer at once or not at all. Milliseconds. */
const ASK_TIMEOUT_MS = 3_000;
/** Made by systemd-timesyncd once it has set the clock. @see systemd-timesyncd.service(8) */
const TIMESYNC_MARK = '/run/systemd/timesync/synchronized';

export interface ClockParts {
  exec: Exec;
  clock: Clock;
  limit: CallLimit;
}

/** What a time service says; null where it cannot be asked. */
type Answer = { by: string; synchronised: boolean } | null;

export async function examineClock(check: string, parts: ClockParts): Promise<Finding> {
  const now = parts.clock.now();
  if (now < EARLIEST_MS) {
    const message = `The clock says ${new Date(now).toISOString()}, which is past.`;
    return failure(check, message, 'Set it: timedatectl set-time, or start an NTP service.');
  }
  const answer = (await askTimedated(parts)) ?? (await askChrony(parts)) ?? (await askTimesyncd());
  if (answer === null) {
    return warning(
      check,
      'Nothing here can tell whether the clock is right.',
      'Run chrony or systemd-timesyncd.',
    );
  }
  if (answer.synchronised) return ok(check, `${answer.by} says that the clock is synchronised.`);
  return warning(
    check,
    `${answer.by} says that the clock is not synchronised.`,
    'Start an NTP service and let it reach its servers.',
  );
}

/** It reads the kernel's own mark, adjtimex(2), whichever service set it. */
async function askTimedated(parts: ClockParts): Promise<Answer> {
  const text = await ask(parts, 'timedatectl', ['show', '--property=NTPSynchronized', '--value']);
  const word = text?.trim();
  if (word !== 'yes' && word !== 'no') return null;
  return { by: 'timedated', synchronised: word === 'yes' };
}

/** The last field of the report is the leap status. @see chronyc(1), -c and tracking */
async function askChrony(parts: ClockParts): Promise<Answer> {
  const text = await ask(parts, 'chronyc', ['-c', 'tracking']);
  if (text === null || text.trim() === '') return null;
  return { by: 'chronyd', synchronised: text.trim().split(',').at(-1) !== 'Not synchronised' };
}

/** Without the mark it may never have run: no answer, rather than a no. */
async function askTimesyncd(): Promise<Answer> {
  const marked = await may(TIMESYNC_MARK, constants.F_OK);
  return marked ? { by: 'systemd-timesyncd', synchronised: true } : null;
}

/** Standard output; null where the program is absent, fails, or does not answer. */
async function ask({ exec, limit }: ClockParts, program: string, args: string[]): Promise<string | null> {
  try {
    return (await exec.run(program, args, { timeoutMs: ASK_TIMEOUT_MS, signal: limit.signal })).stdout;
  } catch (error) {
    limit.check();
    if (error instanceof ProcessError || error instanceof AgentError) return null;
    throw error;
  }
}
