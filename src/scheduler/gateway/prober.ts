/**
 * Probes each link once in an interval, and not all of them at the same moment: with ten thousand that would be felt.
 *
 *   tick ─▶ the links of one slice: silent since the last probe ─▶ cut; else ─▶ asked for a sign of life
 *
 * After this process has stood still nobody is cut for a while: an answer that was lost with a suspended machine comes again
 * only after as long as it was away, by TCP's own pauses.
 */
import type { Clock } from '../clock.ts';
import { StallWatch } from '../stall-watch.ts';
import type { AgentSession } from './agent-session.ts';

/** Moments of an interval at which some are probed. */
const SLICES = 10;
/** The longest that nobody is cut after a stall, ms: TCP's pauses grow to two minutes, and a dead link is one all the same. */
const MERCY_LIMIT_MS = 30_000;

export class Prober {
  readonly #slices = Array.from({ length: SLICES }, () => new Set<AgentSession>());
  readonly #stalls: StallWatch;
  readonly #tickMs: number;
  readonly #stop: () => void;
  #added = 0;
  #ticks = 0;
  /** Ticks from now on in which nobody is cut. */
  #mercy = 0;

  constructor(clock: Clock, intervalMs: number) {
    this.#tickMs = intervalMs / SLICES;
    this.#stalls = new StallWatch(clock, this.#tickMs);
    this.#stop = clock.every(this.#tickMs, () => this.#tick());
  }

  /** @returns Ends it. */
  add(session: AgentSession): () => void {
    const slice = this.#sliceOf(this.#added++);
    slice.add(session);
    return () => slice.delete(session);
  }

  close(): void {
    this.#stop();
  }

  #tick(): void {
    this.#noteStall(this.#stalls.tick());
    const mayCut = this.#mercy === 0;
    if (!mayCut) this.#mercy--;
    for (const session of this.#sliceOf(this.#ticks++)) session.probe({ mayCut });
  }

  /** A shorter stall than the time that a peer has to answer takes no more than a tick of it. */
  #noteStall(lateMs: number): void {
    if (lateMs < SLICES * this.#tickMs) return;
    this.#mercy = Math.max(SLICES, Math.ceil(Math.min(lateMs, MERCY_LIMIT_MS) / this.#tickMs));
  }

  #sliceOf(number: number): Set<AgentSession> {
    return this.#slices[number % SLICES] as Set<AgentSession>;
  }
}
