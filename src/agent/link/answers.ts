/**
 * What the scheduler asks on one connection, and what it gets: each request one answer, within a deadline and a limit.
 *
 * More than the limit under way → LIMIT_REACHED; nothing in time → DEADLINE_EXCEEDED, and whoever works on it is told that
 * nobody waits any more; an answer that is larger than the scheduler takes → LIMIT_REACHED.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import { isMethodName } from '../../model/methods.ts';
import { REQUESTS_IN_FLIGHT_LIMIT } from '../../model/link.ts';
import { METHOD_NOT_FOUND, type RpcRequest, type RpcResponse, rpcErrorOf } from '../../model/wire.ts';
import type { Channel } from './channel.ts';

/** The longest that a method waits by itself is a minute (operation.get); beyond two something hangs, ms. */
const ANSWER_DEADLINE_MS = 120_000;

export interface AnswersParts {
  channel: Channel;
  clock: Clock;
  /** Aborted when the link has ended. */
  gone: AbortSignal;
  call(method: string, params: unknown, signal: AbortSignal): Promise<unknown>;
}

export class Answers {
  readonly #parts: AnswersParts;
  #underWay = 0;

  constructor(parts: AnswersParts) {
    this.#parts = parts;
  }

  /** @param messageBytes Largest message that the scheduler takes. */
  async answer({ method, params }: RpcRequest, id: string | number, messageBytes: number): Promise<void> {
    const { channel } = this.#parts;
    if (this.#underWay >= REQUESTS_IN_FLIGHT_LIMIT) {
      this.refuse(id, tooMany());
      return;
    }
    this.#underWay++;
    const outcome = await this.#outcome(method, params);
    channel.sendText(answerText(id, outcome, messageBytes), () => this.#underWay--);
  }

  refuse(id: string | number, error: AgentError): void {
    this.#parts.channel.send({ jsonrpc: '2.0', id, error: rpcErrorOf(error) });
  }

  async #outcome(method: string, params: unknown): Promise<Outcome> {
    const { clock, gone, call } = this.#parts;
    const late = new AbortController();
    const { promise, reject } = Promise.withResolvers<never>();
    const cancelTimer = clock.after(ANSWER_DEADLINE_MS, () => {
      late.abort();
      reject(
        new AgentError('DEADLINE_EXCEEDED', `${method} has not ended in ${ANSWER_DEADLINE_MS / 1000} s`),
      );
    });
    try {
      return {
        result: await Promise.race([call(method, params, AbortSignal.any([gone, late.signal])), promise]),
      };
    } catch (error) {
      return { error: errorOf(method, error) };
    } finally {
      cancelTimer();
    }
  }
}

type Outcome = { result: unknown } | { error: RpcResponse['error'] };

/** JSON-RPC has a code of its own for a method that is not there; the body is that of every error here. */
function errorOf(method: string, thrown: unknown): RpcResponse['error'] {
  const error = rpcErrorOf(AgentError.from(thrown));
  return isMethodName(method) ? error : { ...error, code: METHOD_NOT_FOUND };
}

function tooMany(): AgentError {
  return new AgentError('LIMIT_REACHED', `${REQUESTS_IN_FLIGHT_LIMIT} requests are under way on this link`);
}

/** The answer as it goes over the wire; one that is too large for a message is an error instead. */
function answerText(id: string | number, outcome: Outcome, messageBytes: number): string {
  const text = JSON.stringify({ jsonrpc: '2.0', id, ...outcome });
  const sizeBytes = Buffer.byteLength(text);
  if (sizeBytes <= messageBytes) return text;
  const error = new AgentError(
    'LIMIT_REACHED',
    `The answer has ${sizeBytes} bytes; a message may have ${messageBytes}`,
    { hint: 'Ask for less at once.' },
  );
  return JSON.stringify({ jsonrpc: '2.0', id, error: rpcErrorOf(error) });
}
