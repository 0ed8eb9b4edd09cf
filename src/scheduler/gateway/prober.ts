/**
 * Probes each link once in an interval, and not all of them at the same moment: with ten thousand that would be felt.
 */
import type { Clock } from '../clock.ts';
import type { AgentSession } from './agent-session.ts';

/** Moments of an interval at which some are probed. */
const SLICES = 10;

export class Prober {
  readonly #slices = Array.from({ length: SLICES }, () => new Set<AgentSession>());
  readonly #stop: () => void;
  #added = 0;
  #ticks = 0;

  constructor(clock: Clock, intervalMs: number) {
    this.#stop = clock.every(intervalMs / SLICES, () => this.#tick());
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
    for (const session of this.#sliceOf(this.#ticks++)) session.probe();
  }

  #sliceOf(number: number): Set<AgentSession> {
    return this.#slices[number % SLICES] as Set<AgentSession>;
  }
}
