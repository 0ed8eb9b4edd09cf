/**
 * Looks at each link ten times in an interval. One that is heard of by itself, as by its agent's own pings, is asked nothing:
 * with thousands of them that is a third of what a gateway at rest has to do.
 *
 *   tick ─▶ silent for an interval and a bit ─▶ asked for a sign of life; for two ─▶ cut
 *
 * Silence is counted in ticks, not by a clock: what comes while this process stands still is not read yet. After it has stood
 * still nobody is cut for a while: an answer that was lost with a suspended machine comes again only after as long as it was
 * away, by TCP's own pauses.
 */
import type { Clock } from '../clock.ts';
import { StallWatch } from '../stall-watch.ts';
import type { AgentSession } from './agent-session.ts';

/** Ticks of an interval. */
const TICKS = 10;
/** Ticks of silence after which a link is asked: an agent that pings every interval may be a bit late. */
const ASK_TICKS = 12;
/** Ticks of silence after which it is cut. */
const CUT_TICKS = 2 * TICKS;
/** The longest that nobody is cut after a stall, ms: TCP's pauses grow to two minutes, and a dead link is one all the same. */
const MERCY_LIMIT_MS = 30_000;

export class Prober {
  readonly #sessions = new Set<AgentSession>();
  readonly #stalls: StallWatch;
  readonly #tickMs: number;
  readonly #stop: () => void;
  /** Ticks from now on in which nobody is cut. */
  #mercy = 0;

  constructor(clock: Clock, intervalMs: number) {
    this.#tickMs = intervalMs / TICKS;
    this.#stalls = new StallWatch(clock, this.#tickMs);
    this.#stop = clock.every(this.#tickMs, () => this.#tick());
  }

  /** @returns Ends it. */
  add(session: AgentSession): () => void {
    this.#sessions.add(session);
    return () => this.#sessions.delete(session);
  }

  close(): void {
    this.#stop();
  }

  #tick(): void {
    this.#noteStall(this.#stalls.tick());
    const mayCut = this.#mercy === 0;
    if (!mayCut) this.#mercy--;
    for (const session of this.#sessions) look(session, mayCut);
  }

  /** A shorter stall than the time that a peer has to answer takes no more than a tick of it. */
  #noteStall(lateMs: number): void {
    if (lateMs < TICKS * this.#tickMs) return;
    this.#mercy = Math.max(TICKS, Math.ceil(Math.min(lateMs, MERCY_LIMIT_MS) / this.#tickMs));
  }
}

function look(session: AgentSession, mayCut: boolean): void {
  const silentTicks = session.noteSilence();
  if (silentTicks >= CUT_TICKS && mayCut) session.cut();
  else if (silentTicks % ASK_TICKS === 0) session.ask();
}
