/**
 * One run of one operation, from where its journal stands to its end.
 *
 * Theory of operation: the journal row is the truth, this object only walks it. A step is journaled as
 * `begun` before it acts and as `done` after; the end of one stage and the beginning of the next are one
 * commit. A step found `begun` at the start was cut off by a crash: the host is looked at before it is run
 * again. A failed step sends the walk backwards through the undo of every step that was begun. Undo is
 * tried until it works, with growing pauses: an operation that can't be undone stays visible as `undoing`.
 * The row in memory follows the journal's commits, never runs ahead of them; so where the journal can't be
 * written (a full disk) the walk breaks off, and is taken up after a pause from where the journal stands.
 * A run that is suspended (the daemon goes down) writes nothing more, exactly as if it had crashed.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { StepProgress } from '../../model/operation.ts';
import type { OperationRow, StepRow } from '../store/operations.ts';
import { viewOf } from '../store/operations.ts';
import type { Store } from '../store/store.ts';
import { type AnyWalk, type Step, type StepContext, stepsOf } from './kind.ts';

/** Pauses before a step is tried again, ms; the code of its error must say that trying may help. */
const RETRY_DELAYS_MS = [250, 1_000, 4_000];
/** Pauses before an undo, or a walk that broke off, is tried again, ms; the last one is repeated. */
const UNDO_DELAYS_MS = [250, 1_000, 4_000, 15_000, 60_000];

/** Breaks off a walk whose daemon goes down. */
class Suspended extends Error {}

export interface RunLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export class Run {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: RunLog;
  readonly #walk: AnyWalk;
  readonly #row: OperationRow;
  /** Cancelled or out of time: the steps stop, the undo begins. */
  readonly #stop = new AbortController();
  /** The daemon goes down: everything stops. */
  readonly #down = new AbortController();
  readonly #progress = new Map<number, StepProgress>();
  /** Steps that were cut off: looked at before they act. */
  #cutOff: ReadonlySet<number> = new Set();

  constructor(parts: { store: Store; clock: Clock; log: RunLog; walk: AnyWalk; row: OperationRow }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#walk = parts.walk;
    this.#row = parts.row;
    if (parts.row.cancelRequestedAt !== null) this.#stop.abort(cancelled());
  }

  /** How far the steps under way have come: their mean, with the words and bytes of the one that tells most. */
  get progress(): StepProgress | null {
    const all = [...this.#progress.values()];
    if (all.length === 0) return null;
    const percent = Math.floor(all.reduce((sum, one) => sum + one.percent, 0) / all.length);
    return { ...(all.find(({ bytes }) => bytes !== undefined) ?? all[0]), percent };
  }

  /**
   * Stops the steps under way, to be undone; one that has not begun ends at once. It is journaled first, so that the
   * next daemon knows of it, too.
   *
   * @throws {AgentError} UNAVAILABLE: it could not be journaled, and the operation goes on.
   */
  cancel(): void {
    const { state, cancelRequestedAt } = this.#row;
    if (cancelRequestedAt !== null || state === 'undoing') return;
    this.#store.db.transaction(() => {
      this.#requestCancel();
      if (state === 'pending') this.#end('cancelled', () => this.#undone(cancelled()));
    });
    this.#stop.abort(cancelled());
  }

  suspend(): void {
    this.#down.abort(new Suspended('the daemon goes down'));
  }

  /** Walks to the end; never rejects. */
  async execute(timeoutMs: number): Promise<void> {
    const cancelTimer = this.#clock.after(timeoutMs, () =>
      this.#stop.abort(new AgentError('DEADLINE_EXCEEDED', `Not done in ${timeoutMs / 1000} s`)),
    );
    for (let attempt = 0; !(await this.#walked(attempt)); attempt++) {
      await this.#pause(undoDelayMs(attempt), this.#down.signal);
    }
    cancelTimer();
  }

  /** Walks; false when it broke off before the end, and should be tried again. */
  async #walked(attempt: number): Promise<boolean> {
    try {
      if (this.#row.state === 'pending' || this.#row.state === 'running') await this.#forward();
      if (this.#row.state === 'undoing') await this.#backward();
      return true;
    } catch (error) {
      if (this.#down.signal.aborted) return true;
      const delayMs = undoDelayMs(attempt);
      this.#log.warn({ operation: this.#row.id, delayMs, error }, 'a run broke off and is tried again');
      return false;
    }
  }

  async #forward(): Promise<void> {
    const begun = this.#row.steps.filter((step) => step.state === 'begun');
    this.#cutOff = new Set(begun.map(({ position }) => position));
    try {
      this.#throwIfStopped();
      const stages = this.#openStages();
      if (stages.length > 0) this.#begin(stages[0] as number[], 'running');
      for (const [index, positions] of stages.entries()) {
        await this.#runStage(positions, stages[index + 1] ?? []);
      }
      this.#throwIfStopped();
      this.#succeed();
    } catch (error) {
      this.#down.signal.throwIfAborted();
      this.#turnBack(this.#reasonFor(error));
    }
  }

  /** Positions of the steps still to be done, stage by stage. */
  #openStages(): number[][] {
    let next = 0;
    return this.#walk.stages
      .map((stage) => stage.map(() => next++))
      .map((positions) => positions.filter((position) => this.#stepRow(position).state !== 'done'))
      .filter((positions) => positions.length > 0);
  }

  /** The first step that fails stops those beside it, and is the reason. */
  async #runStage(positions: number[], following: number[]): Promise<void> {
    const failed = new AbortController();
    let left = positions.length;
    await Promise.allSettled(
      positions.map(async (position) => {
        try {
          const result = await this.#runStep(position, failed.signal);
          this.#endStep(position, result, --left === 0 ? following : []);
        } catch (error) {
          failed.abort(error);
        }
      }),
    );
    failed.signal.throwIfAborted();
  }

  async #runStep(position: number, besides: AbortSignal): Promise<unknown> {
    const step = this.#step(position);
    const context = this.#context(position, besides);
    for (let attempt = 0; ; attempt++) {
      try {
        context.signal.throwIfAborted();
        if (this.#cutOff.has(position) || attempt > 0) {
          const looked = await step.look(this.#row.plan, context);
          if (looked !== null) return looked.result;
        }
        return await step.act(this.#row.plan, context);
      } catch (error) {
        const delayMs = RETRY_DELAYS_MS[attempt];
        if (context.signal.aborted || delayMs === undefined || AgentError.from(error).code !== 'UNAVAILABLE')
          throw error;
        this.#log.info({ operation: this.#row.id, step: step.name, delayMs, error }, 'a step is tried again');
        await this.#pause(delayMs, context.signal);
      }
    }
  }

  #turnBack(error: AgentError): void {
    this.#store.db.transaction(() => {
      this.#setState('undoing');
      this.#setError(error);
      this.#tell();
    });
  }

  /** Takes back what was begun, last things first. */
  async #backward(): Promise<void> {
    for (const step of this.#row.steps.toReversed()) {
      if (step.state === 'begun' || step.state === 'done') await this.#undoStep(step);
    }
    this.#store.db.transaction(() =>
      this.#end(this.#row.error?.code === 'CANCELLED' ? 'cancelled' : 'failed', () => this.#undone()),
    );
  }

  async #undoStep(row: StepRow): Promise<void> {
    const step = this.#step(row.position);
    const context = { signal: this.#down.signal, onProgress: () => undefined };
    for (let attempt = 0; step.undo !== undefined; attempt++) {
      try {
        await step.undo(this.#row.plan, context);
        break;
      } catch (error) {
        this.#down.signal.throwIfAborted();
        const delayMs = undoDelayMs(attempt);
        this.#log.warn(
          { operation: this.#row.id, step: step.name, delayMs, error },
          'an undo failed and is tried again',
        );
        await this.#pause(delayMs, context.signal);
      }
    }
    this.#store.db.transaction(() => {
      const at = timestamp(this.#clock);
      this.#store.operations.endStep(this.#row.id, row.position, { state: 'undone', at });
      this.#onCommit(row, { state: 'undone', endedAt: at });
    });
  }

  #succeed(): void {
    const results = Object.fromEntries(this.#row.steps.map((step) => [step.name, step.result]));
    this.#store.db.transaction(() =>
      this.#end('succeeded', () => this.#walk.succeeded(this.#row.plan as never, results)),
    );
  }

  #undone(error?: AgentError): void {
    if (error !== undefined) this.#setError(error);
    this.#walk.undone(this.#row.plan as never);
  }

  #end(state: 'succeeded' | 'failed' | 'cancelled', writeRows: () => void): void {
    writeRows();
    const endedAt = timestamp(this.#clock);
    this.#store.operations.end(this.#row.id, state, endedAt);
    this.#onCommit(this.#row, { state, endedAt });
    this.#tell();
  }

  #requestCancel(): void {
    const at = timestamp(this.#clock);
    this.#store.operations.requestCancel(this.#row.id, at);
    this.#onCommit(this.#row, { cancelRequestedAt: at });
    this.#tell();
  }

  #begin(positions: number[], state: 'running'): void {
    this.#store.db.transaction(() => {
      this.#setState(state);
      this.#beginSteps(positions);
    });
  }

  #endStep(position: number, result: unknown, following: number[]): void {
    this.#down.signal.throwIfAborted();
    this.#progress.delete(position);
    this.#store.db.transaction(() => {
      const at = timestamp(this.#clock);
      this.#store.operations.endStep(this.#row.id, position, { state: 'done', result, at });
      this.#onCommit(this.#stepRow(position), { state: 'done', result, endedAt: at });
      this.#beginSteps(following);
    });
  }

  #beginSteps(positions: number[]): void {
    const at = timestamp(this.#clock);
    for (const position of positions) {
      this.#store.operations.beginStep(this.#row.id, position, at);
      this.#onCommit(this.#stepRow(position), { state: 'begun', startedAt: at });
    }
  }

  #setState(state: 'running' | 'undoing'): void {
    const at = timestamp(this.#clock);
    this.#store.operations.setState(this.#row.id, state, at);
    this.#onCommit(this.#row, { state, startedAt: this.#row.startedAt ?? at });
  }

  #setError(error: AgentError): void {
    const body = error.toBody();
    this.#store.operations.setError(this.#row.id, body);
    this.#onCommit(this.#row, { error: body });
  }

  #onCommit<T extends object>(row: T, change: Partial<T>): void {
    this.#store.db.onCommit(() => void Object.assign(row, change));
  }

  #tell(): void {
    tellOperation(this.#store, this.#row.id);
  }

  #context(position: number, besides: AbortSignal): StepContext {
    return {
      signal: AbortSignal.any([this.#stop.signal, this.#down.signal, besides]),
      onProgress: (progress) => this.#progress.set(position, progress),
    };
  }

  /** What really ended it: a step that was aborted says only that it was. */
  #reasonFor(error: unknown): AgentError {
    const reason = this.#stop.signal.aborted ? this.#stop.signal.reason : error;
    return AgentError.from(reason);
  }

  #throwIfStopped(): void {
    this.#down.signal.throwIfAborted();
    this.#stop.signal.throwIfAborted();
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const goOn = () => resolve();
    const cancelTimer = this.#clock.after(delayMs, goOn);
    signal.addEventListener('abort', goOn, { once: true });
    if (signal.aborted) goOn();
    await promise;
    signal.removeEventListener('abort', goOn);
    cancelTimer();
  }

  #step(position: number): Step<unknown> {
    return stepsOf(this.#walk)[position] as unknown as Step<unknown>;
  }

  #stepRow(position: number): StepRow {
    return this.#row.steps[position] as StepRow;
  }
}

function cancelled(): AgentError {
  return new AgentError('CANCELLED', 'Cancelled by a caller');
}

function undoDelayMs(attempt: number): number {
  return UNDO_DELAYS_MS[Math.min(attempt, UNDO_DELAYS_MS.length - 1)] as number;
}

/** The event about an operation as it is now; within the transaction that changed it. */
export function tellOperation(store: Store, id: string): void {
  const row = store.operations.get(id);
  store.events.append(
    'operation.changed',
    { kind: 'operation', id, name: row.kind },
    { operation: viewOf(row, null) },
  );
}
