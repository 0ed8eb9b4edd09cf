/**
 * One run of one operation, from where its journal stands to its end.
 *
 * Theory of operation: the journal row is the truth, this object only walks it. A step is journaled as `begun`
 * before it acts and as `done` after; the end of one stage and the beginning of the next are one commit, and so
 * are the end of the last one and that of the operation. A step found `begun` at the start was cut off by a crash:
 * the host is looked at before it is run again. What its error asks for (retry.ts) is done with a failed step: it
 * is tried again with growing pauses until the operation is out of time, or it sends the walk backwards through
 * the undo of every step that was begun. Undo is tried until it works: an operation that can't be undone stays
 * visible as `undoing`, with its last error and its next try. Parts (parts.ts) have ended before anything of the
 * whole is taken back. The row in memory follows the journal's commits, never runs ahead of them; so where the
 * journal can't be written (a full disk) the walk breaks off, and is taken up after a pause from where the journal
 * stands. A run that is suspended (the daemon goes down) writes nothing more, exactly as if it had crashed.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { Retry, StepProgress } from '../../model/operation.ts';
import { endEntry } from '../audit/entries.ts';
import type { OperationRow, StepRow } from '../store/operations.ts';
import { viewOf } from '../store/operations.ts';
import type { Store } from '../store/store.ts';
import { type ActContext, type AnyWalk, type Step, stepsOf } from './kind.ts';
import type { Parts } from './parts.ts';
import { pause } from './pause.ts';
import { classOf, Retries, type Tried } from './retry.ts';

/** The journal itself, as what waits to be tried again. */
const JOURNAL: Tried = { step: null, doing: 'journal' };
const WARNINGS = {
  act: 'a step is tried again',
  undo: 'an undo failed and is tried again',
  journal: 'a run broke off and is tried again',
} as const;

/** The steps that begin with the end of a stage; after the last one the operation ends, if nobody has stopped it. */
type Following = readonly number[] | 'end';

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
  readonly #retries: Retries;
  readonly #parts: Parts;
  /** Milliseconds since the epoch. */
  #undoingSince: number | null;
  /** Steps that were cut off: looked at before they act. */
  #cutOff: ReadonlySet<number> = new Set();

  constructor(parts: {
    store: Store;
    clock: Clock;
    log: RunLog;
    walk: AnyWalk;
    row: OperationRow;
    parts: Parts;
  }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#walk = parts.walk;
    this.#row = parts.row;
    this.#parts = parts.parts;
    this.#retries = new Retries(parts.clock);
    this.#undoingSince = parts.row.state === 'undoing' ? parts.clock.now() : null;
    if (parts.row.cancelRequestedAt !== null) this.#stop.abort(cancelled());
  }

  get row(): Readonly<OperationRow> {
    return this.#row;
  }

  /** How far the steps under way have come: their mean, with the words and bytes of the one that tells most. */
  get progress(): StepProgress | null {
    const all = [...this.#progress.values()];
    if (all.length === 0) return null;
    const percent = Math.floor(all.reduce((sum, one) => sum + one.percent, 0) / all.length);
    return { ...(all.find(({ bytes }) => bytes !== undefined) ?? all[0]), percent };
  }

  /** What waits to be tried again, or null. */
  get retry(): Retry | null {
    return this.#retries.first;
  }

  /** Since when it is being undone, as far as this daemon has seen it; milliseconds since the epoch. */
  get undoingSince(): number | null {
    return this.#undoingSince;
  }

  /**
   * Stops the steps under way, to be undone; one that has not begun ends at once. It is journaled first, so that the
   * next daemon knows of it, too.
   *
   * @param record Called within the transaction.
   * @throws {AgentError} UNAVAILABLE: it could not be journaled, and the operation goes on.
   */
  cancel(record: () => void = () => undefined): void {
    const { state, cancelRequestedAt } = this.#row;
    if (cancelRequestedAt !== null || state === 'undoing') return;
    this.#store.db.transaction(() => {
      record();
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
    const cancelTimer = this.#clock.after(timeoutMs, () => this.#stop.abort(this.#late(timeoutMs)));
    while (!(await this.#walked()));
    cancelTimer();
  }

  /** Out of time, and what it was waiting for, if it was. */
  #late(timeoutMs: number): AgentError {
    const cause = this.#retries.lastError ?? undefined;
    return new AgentError('DEADLINE_EXCEEDED', `Not done in ${timeoutMs / 1000} s`, { cause });
  }

  /** Walks; false when it broke off before the end, and is to be tried again now. */
  async #walked(): Promise<boolean> {
    try {
      if (this.#row.state === 'pending' || this.#row.state === 'running') await this.#forward();
      if (this.#row.state === 'undoing') await this.#backward();
      return true;
    } catch (error) {
      if (this.#down.signal.aborted) return true;
      await this.#pauseAfter(JOURNAL, error, this.#down.signal);
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
        await this.#runStage(positions, stages[index + 1] ?? 'end');
      }
      this.#throwIfStopped();
      if (this.#row.state === 'running') this.#store.db.transaction(() => this.#succeed());
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
  async #runStage(positions: number[], following: Following): Promise<void> {
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
    const what = { step: step.name, doing: 'act' } as const;
    const { retryForMs = Number.POSITIVE_INFINITY } = step;
    const startMs = this.#clock.monotonicMs();
    try {
      for (let mustLook = this.#cutOff.has(position); ; mustLook = true) {
        try {
          return await this.#tryStep(step, context, mustLook);
        } catch (error) {
          const isOver = context.signal.aborted || this.#clock.monotonicMs() - startMs >= retryForMs;
          if (isOver || classOf(error) !== 'back-off') throw error;
          await this.#pauseAfter(what, error, context.signal);
        }
      }
    } finally {
      this.#retries.over(what);
    }
  }

  async #pauseAfter(what: Tried, error: unknown, signal: AbortSignal): Promise<void> {
    const delayMs = this.#retries.failed(what, error);
    this.#log.warn({ operation: this.#row.id, ...what, delayMs, error }, WARNINGS[what.doing]);
    await pause(this.#clock, delayMs, signal);
  }

  /** Looks first where it may be done already, and after an act that gave no answer in its time. */
  async #tryStep(step: Step<unknown>, context: ActContext, mustLook: boolean): Promise<unknown> {
    context.signal.throwIfAborted();
    const looked = mustLook ? await step.look(this.#row.plan, context) : null;
    if (looked !== null) return looked.result;
    try {
      return await step.act(this.#row.plan, context);
    } catch (error) {
      if (context.signal.aborted || classOf(error) !== 'look') throw error;
      const found = await step.look(this.#row.plan, context);
      if (found === null) throw error;
      return found.result;
    }
  }

  #turnBack(error: AgentError): void {
    this.#store.db.transaction(() => {
      this.#setState('undoing');
      this.#setError(error);
      this.#tell();
    });
    this.#undoingSince = this.#clock.now();
  }

  /** Takes back what was begun, last things first. */
  async #backward(): Promise<void> {
    await this.#parts.endAll(this.#down.signal);
    for (const step of this.#row.steps.toReversed()) {
      if (step.state === 'begun' || step.state === 'done') await this.#undoStep(step);
    }
    this.#store.db.transaction(() =>
      this.#end(this.#wasCancelled() ? 'cancelled' : 'failed', () => this.#undone()),
    );
  }

  /** Not for a part that was cancelled, say: that is a failure of the whole. */
  #wasCancelled(): boolean {
    return this.#row.cancelRequestedAt !== null && this.#row.error?.code === 'CANCELLED';
  }

  async #undoStep(row: StepRow): Promise<void> {
    const step = this.#step(row.position);
    const context = { signal: this.#down.signal, onProgress: () => undefined };
    const what = { step: step.name, doing: 'undo' } as const;
    while (step.undo !== undefined) {
      try {
        await step.undo(this.#row.plan, context);
        break;
      } catch (error) {
        this.#down.signal.throwIfAborted();
        await this.#pauseAfter(what, error, context.signal);
      }
    }
    this.#retries.over(what);
    this.#store.db.transaction(() => {
      const at = timestamp(this.#clock);
      this.#store.operations.endStep(this.#row.id, row.position, { state: 'undone', at });
      this.#onCommit(row, { state: 'undone', endedAt: at });
    });
  }

  /** @param last What the last step has answered, whose end is in the same commit. */
  #succeed(last: Record<string, unknown> = {}): void {
    this.#end('succeeded', () => {
      this.#walk.succeeded(this.#row.plan as never, { ...this.#results(), ...last });
      this.#release(this.#walk.removes);
    });
  }

  #undone(error?: AgentError): void {
    if (error !== undefined) this.#setError(error);
    this.#walk.undone(this.#row.plan as never);
    this.#release(this.#walk.makes);
  }

  /** The names stay in the journal, as proof for what may be found of them later. */
  #release(namesOf: AnyWalk['makes']): void {
    this.#store.names.release(namesOf?.(this.#row.plan as never) ?? [], timestamp(this.#clock));
  }

  #end(state: 'succeeded' | 'failed' | 'cancelled', writeRows: () => void): void {
    writeRows();
    const endedAt = timestamp(this.#clock);
    this.#store.operations.end(this.#row.id, state, endedAt);
    if (this.#row.parentId === null)
      this.#store.audit.append(endEntry(this.#row, state, this.#codeOf(state)));
    this.#onCommit(this.#row, { state, endedAt });
    this.#tell();
  }

  #codeOf(state: 'succeeded' | 'failed' | 'cancelled'): ErrorCode | null {
    if (state === 'succeeded') return null;
    return state === 'cancelled' ? 'CANCELLED' : (this.#row.error?.code ?? null);
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

  #endStep(position: number, result: unknown, following: Following): void {
    this.#down.signal.throwIfAborted();
    this.#progress.delete(position);
    this.#store.db.transaction(() => {
      const at = timestamp(this.#clock);
      this.#store.operations.endStep(this.#row.id, position, { state: 'done', result, at });
      this.#onCommit(this.#stepRow(position), { state: 'done', result, endedAt: at });
      const step = this.#step(position);
      step.record?.(this.#row.plan, result);
      this.#forget(step);
      if (following !== 'end') this.#beginSteps(following);
      else if (!this.#stop.signal.aborted) this.#succeed({ [step.name]: result });
    });
  }

  #forget({ forget }: Step<unknown>): void {
    if (forget === undefined) return;
    const plan = forget(this.#row.plan);
    this.#store.operations.setPlan(this.#row.id, plan);
    this.#onCommit(this.#row, { plan });
  }

  #beginSteps(positions: readonly number[]): void {
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
    this.#store.db.onCommit(() => {
      Object.assign(row, change);
      this.#retries.over(JOURNAL);
    });
  }

  #tell(): void {
    tellOperation(this.#store, this.#row.id);
  }

  #context(position: number, besides: AbortSignal): ActContext {
    const context = {
      signal: AbortSignal.any([this.#stop.signal, this.#down.signal, besides]),
      onProgress: (progress: StepProgress) => void this.#progress.set(position, progress),
    };
    return {
      ...context,
      results: this.#results(),
      runParts: (parts) => this.#parts.run(parts, context),
    };
  }

  #results(): Record<string, unknown> {
    return Object.fromEntries(this.#row.steps.map((step) => [step.name, step.result]));
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

/** The event about an operation as it is now; within the transaction that changed it. */
export function tellOperation(store: Store, id: string): void {
  const row = store.operations.get(id);
  store.events.append(
    'operation.changed',
    { kind: 'operation', id, name: row.kind },
    { operation: viewOf(row, { progress: null, retry: null, children: store.operations.countChildren(id) }) },
  );
}
