/**
 * Enrolment by a token that lies in a file when the agent starts, as an installer leaves it.
 *
 * A scheduler that can't be reached is tried again, later and later; a token that is refused is not, since that stays
 * so. A token that was used by this node is no news: the file may stay where it is, it is good for nothing.
 */
import { readFileSync } from 'node:fs';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Log } from '../log.ts';
import { pause } from '../operations/pause.ts';
import type { Identity } from './identity.ts';

const FIRST_PAUSE_MS = 1_000;
const LAST_PAUSE_MS = 60_000;

export interface EnrolAtStartParts {
  identity: Identity;
  tokenFile: string;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

/** Resolves when there is nothing more to try; never rejects. */
export async function enrolAtStart({
  identity,
  tokenFile,
  clock,
  log,
  signal,
}: EnrolAtStartParts): Promise<void> {
  for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS)) {
    try {
      const token = readFileSync(tokenFile, 'utf8');
      if (!identity.hasUsed(token)) await identity.enrol(token);
      return;
    } catch (thrown) {
      const error = AgentError.from(thrown);
      const isOver = !error.retryable;
      // A file that is gone after it was used is in order.
      if (isOver && identity.isEnrolled && !(thrown instanceof AgentError)) return;
      log.warn(
        { error, tokenFile },
        isOver ? 'this node could not be enrolled' : 'this node is not enrolled yet',
      );
      if (isOver) return;
    }
    await pause(clock, pauseMs, signal);
  }
}
