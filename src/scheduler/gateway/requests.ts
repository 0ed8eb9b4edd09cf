/**
 * The requests to one agent that have no answer yet: each settles exactly once, with the answer, at its deadline, or when
 * the link closes.
 */
import type { AgentError } from '../../model/errors.ts';
import { agentErrorOf, type RpcResponse } from '../../model/wire.ts';
import type { Clock } from '../clock.ts';

/** How a request ended. `unanswered`: the agent may have taken it or not. */
export type Outcome =
  | { kind: 'result'; result: unknown }
  | { kind: 'refused'; error: AgentError }
  | { kind: 'unanswered'; why: 'link-closed' | 'deadline' }
  | { kind: 'unsent'; why: 'link-closed' | 'too-many' };

export class Requests {
  readonly #clock: Clock;
  readonly #pending = new Map<number, (outcome: Outcome) => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Waits for the answer to a request. Never rejects. */
  wait(id: number, deadlineMs: number): Promise<Outcome> {
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    const settle = (outcome: Outcome): void => {
      cancelDeadline();
      this.#pending.delete(id);
      resolve(outcome);
    };
    const late: Outcome = { kind: 'unanswered', why: 'deadline' };
    const cancelDeadline = this.#clock.after(deadlineMs, () => settle(late));
    this.#pending.set(id, settle);
    return promise;
  }

  /** @returns Whether anybody waited for it. */
  answered({ id, result, error }: RpcResponse): boolean {
    const settle = typeof id === 'number' ? this.#pending.get(id) : undefined;
    if (error === undefined) settle?.({ kind: 'result', result });
    else settle?.({ kind: 'refused', error: agentErrorOf(error) });
    return settle !== undefined;
  }

  /** The link has closed. */
  end(): void {
    for (const settle of [...this.#pending.values()]) settle({ kind: 'unanswered', why: 'link-closed' });
  }
}
