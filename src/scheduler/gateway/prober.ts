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

/** Ticks of the interval as it is first. */
const TICKS = 10;
/** Intervals of silence after which a link is asked: an agent that pings every interval may be a bit late. */
const ASK_INTERVALS = 1.2;
/** Intervals of silence after which it is cut. */
const CUT_INTERVALS = 2;
/** The longest that nobody is cut after a stall, ms: TCP's pauses grow to two minutes, and a dead link is one all the same. */
const MERCY_LIMIT_MS = 30_000;

export class Prober {
  readonly #sessions = new Set<AgentSession>();
  readonly #stalls: StallWatch;
  readonly #intervalMs: () => number;
  readonly #tickMs: number;
  readonly #stop: () => void;
  /** Ticks from now on in which nobody is cut. */
  #mercy = 0;

  /** @param intervalMs In which each agent is heard of; may grow. */
  constructor(clock: Clock, intervalMs: () => number) {
    this.#intervalMs = intervalMs;
    this.#tickMs = intervalMs() / TICKS;
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
    const ticks = Math.round(this.#intervalMs() / this.#tickMs);
    this.#noteStall(this.#stalls.tick(), ticks);
    const mayCut = this.#mercy === 0;
    if (!mayCut) this.#mercy--;
    for (const session of this.#sessions) look(session, ticks, mayCut);
  }

  /** A shorter stall than the time that a peer has to answer takes no more than a tick of it. */
  #noteStall(lateMs: number, ticks: number): void {
    if (lateMs < ticks * this.#tickMs) return;
    this.#mercy = Math.max(ticks, Math.ceil(Math.min(lateMs, MERCY_LIMIT_MS) / this.#tickMs));
  }
}

/** @param ticks Of an interval. */
function look(session: AgentSession, ticks: number, mayCut: boolean): void {
  const silentTicks = session.noteSilence();
  if (silentTicks >= CUT_INTERVALS * ticks && mayCut) session.cut();
  else if (silentTicks % Math.ceil(ASK_INTERVALS * ticks) === 0) session.ask();
}
