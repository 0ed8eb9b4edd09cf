/**
 * The way that every call of a sim driver goes: closed or killed, cancelled, cut off, faults, latency, the
 * act itself, the save, faults again. All of its waiting ends at the call's deadline and by its signal.
 */
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { DriverName, Effect, Faults, Moment, SimCall } from './faults.ts';

/** Deadline of a call unless told otherwise, milliseconds: what a healthy host answers in, with much to spare. */
export const CALL_TIMEOUT_MS = 30_000;

/** What calls need from the world. */
export interface CallWorld {
  readonly clock: Clock;
  readonly faults: Faults;
  /** Milliseconds that each call takes. */
  readonly callMs: number;
  /** Writes what has changed, where the world is kept in a file. */
  flush(): void;
}

/** One process's hold on the world. */
export interface Attachment {
  /** False once the process is taken for killed: its calls act no more, and never settle. */
  alive: boolean;
}

export interface CallRequest extends SimCall {
  options: CallOptions | undefined;
  /** The call's own default, milliseconds. @default CALL_TIMEOUT_MS */
  timeoutMs?: number;
  /**
   * What silence at the deadline means: `question`, the host could not be asked: UNAVAILABLE; `command`, it
   * may have been done: DEADLINE_EXCEEDED. @default 'command'
   */
  nature?: 'question' | 'command';
}

export class Calls {
  readonly #world: CallWorld;
  readonly #driver: DriverName;
  readonly #attachment: Attachment;

  constructor(world: CallWorld, driver: DriverName, attachment: Attachment) {
    this.#world = world;
    this.#driver = driver;
    this.#attachment = attachment;
  }

  /**
   * Makes one call.
   *
   * @param act Changes and reads the world; at once, or over the time that it waits in `waits`.
   * @throws {AgentError} UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, an injected error, or what `act` throws.
   */
  async run<T>(request: CallRequest, act: (waits: Waits) => T | Promise<T>): Promise<T> {
    const waits = new Waits(this.#world, this.#driver, this.#attachment, request);
    await this.#pass(request, 'before', waits);
    if (this.#world.callMs > 0) await waits.sleep(this.#world.callMs);
    try {
      return await act(waits);
    } finally {
      this.#world.flush();
      await this.#pass(request, 'after', waits);
    }
  }

  /** Nothing to wait for where nothing is to go wrong: ten thousand guests make many calls. */
  #pass(call: SimCall, when: Moment, waits: Waits): Promise<void> | undefined {
    if (!waits.goesOn(when)) return never();
    return this.#world.faults.isQuiet ? undefined : this.#meetFaults(call, when, waits);
  }

  async #meetFaults(call: SimCall, when: Moment, waits: Waits): Promise<void> {
    const { faults } = this.#world;
    const { name, id, pool } = call;
    await faults.tell({ name, id, ...(pool !== undefined && { pool }) }, when);
    for (const effect of faults.meet(call, when)) await meet(effect, waits);
    if (!waits.goesOn(when)) await never();
  }
}

async function meet(effect: Effect, waits: Waits): Promise<void> {
  switch (effect.type) {
    case 'fail':
      throw effect.error;
    case 'delay':
      return waits.sleep(effect.delayMs);
    case 'hang':
      return waits.until((goOn) => {
        effect.waiting.add(goOn);
        return () => void effect.waiting.delete(goOn);
      });
  }
}

/** The waiting of one call. */
export class Waits {
  readonly #world: CallWorld;
  readonly #driver: DriverName;
  readonly #attachment: Attachment;
  readonly #name: string;
  readonly #signal: AbortSignal | undefined;
  readonly #timeoutMs: number;
  readonly #startMs: number;
  readonly #nature: 'question' | 'command';

  constructor(world: CallWorld, driver: DriverName, attachment: Attachment, request: CallRequest) {
    this.#world = world;
    this.#driver = driver;
    this.#attachment = attachment;
    this.#name = request.name;
    this.#signal = request.options?.signal;
    this.#timeoutMs = request.options?.timeoutMs ?? request.timeoutMs ?? CALL_TIMEOUT_MS;
    this.#startMs = world.clock.monotonicMs();
    this.#nature = request.nature ?? 'command';
  }

  /**
   * False for a killed process. A signal counts only before the call has acted, as its work is done then.
   *
   * @throws {AgentError} CANCELLED, UNAVAILABLE
   */
  goesOn(when: Moment): boolean {
    if (!this.#attachment.alive) return false;
    if (when === 'before' && this.#signal?.aborted) throw this.#cancelled();
    if (this.#world.faults.cutOffReason(this.#driver) !== null) throw this.#unavailable();
    return true;
  }

  async sleep(delayMs: number): Promise<void> {
    await this.until((goOn) => this.#world.clock.after(delayMs, goOn));
  }

  /**
   * Waits until `begin`'s argument is called.
   *
   * @param begin Gets the function that ends the waiting; answers how to forget it.
   * @throws {AgentError} DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE when cut off meanwhile.
   */
  until(begin: (goOn: () => void) => () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const ends: (() => void)[] = [];
      const finish = (settle: () => void) => {
        for (const end of ends) end();
        if (this.#attachment.alive) settle();
      };
      const fail = (error: AgentError) => finish(() => reject(error));
      ends.push(begin(() => finish(resolve)));
      ends.push(this.#atDeadline(() => fail(this.#late())));
      ends.push(this.#onAbort(() => fail(this.#cancelled())));
      ends.push(this.#onCutOff(() => fail(this.#unavailable())));
      // What came between the call's last look and now is told by no event.
      if (this.#signal?.aborted) fail(this.#cancelled());
      if (this.#world.faults.cutOffReason(this.#driver) !== null) fail(this.#unavailable());
    });
  }

  #atDeadline(callback: () => void): () => void {
    const leftMs = this.#startMs + this.#timeoutMs - this.#world.clock.monotonicMs();
    return this.#world.clock.after(leftMs, callback);
  }

  #onAbort(callback: () => void): () => void {
    this.#signal?.addEventListener('abort', callback, { once: true });
    return () => this.#signal?.removeEventListener('abort', callback);
  }

  #onCutOff(callback: () => void): () => void {
    return this.#world.faults.onCutOff((driver) => {
      if (driver === this.#driver) callback();
    });
  }

  #late(): AgentError {
    const code = this.#nature === 'question' ? 'UNAVAILABLE' : 'DEADLINE_EXCEEDED';
    return new AgentError(code, `${this.#name} is not done after ${this.#timeoutMs} ms`);
  }

  #cancelled(): AgentError {
    return new AgentError('CANCELLED', `${this.#name} was cancelled`);
  }

  #unavailable(): AgentError {
    const reason = this.#world.faults.cutOffReason(this.#driver) ?? 'the connection was lost meanwhile';
    return new AgentError('UNAVAILABLE', `${this.#name} cannot reach the host: ${reason}`);
  }
}

/** What a killed process's call comes to: nothing. */
function never(): Promise<never> {
  return new Promise(() => {});
}
