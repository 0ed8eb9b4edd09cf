/**
 * What this side asks of the scheduler on one connection: each question gets an answer, a deadline, or the end.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import { agentErrorOf, type RpcResponse } from '../../model/wire.ts';
import type { Channel } from './channel.ts';

/** What this side asks is answered from the scheduler's database, ms. */
const ANSWER_TIMEOUT_MS = 30_000;

export class Questions {
  readonly #channel: Channel;
  readonly #clock: Clock;
  readonly #gone: AbortSignal;
  readonly #asked = new Map<string, (answer: RpcResponse) => void>();
  #last = 0;

  constructor(channel: Channel, clock: Clock, gone: AbortSignal) {
    this.#channel = channel;
    this.#clock = clock;
    this.#gone = gone;
  }

  /** @throws {AgentError} Its refusal; UNAVAILABLE: the link has ended; DEADLINE_EXCEEDED. */
  async ask(method: string, params: unknown): Promise<unknown> {
    const id = `agent-${++this.#last}`;
    const { promise, resolve, reject } = Promise.withResolvers<RpcResponse>();
    const late = () => reject(new AgentError('DEADLINE_EXCEEDED', `No answer of the scheduler to ${method}`));
    const gone = () => reject(new AgentError('UNAVAILABLE', `The link ended before ${method} was answered`));
    const cancelTimer = this.#clock.after(ANSWER_TIMEOUT_MS, late);
    this.#gone.addEventListener('abort', gone, { once: true });
    if (this.#gone.aborted) gone();
    this.#asked.set(id, resolve);
    this.#channel.send({ jsonrpc: '2.0', id, method, params });
    try {
      const { result, error } = await promise;
      if (error !== undefined) throw agentErrorOf(error);
      return result;
    } finally {
      cancelTimer();
      this.#asked.delete(id);
      this.#gone.removeEventListener('abort', gone);
    }
  }

  /** An answer to nothing that was asked is dropped. */
  answered(response: RpcResponse): void {
    this.#asked.get(String(response.id))?.(response);
  }
}
