/**
 * One run of one operation, from where its journal stands to its end.
 *
 * Theory of operation: the journal row is the truth, this object only walks it. A step is journaled as `begun`
 * before it acts and as `done` after; the end of one stage and the beginning of the next are one commit, and so
 * are the end of the last one and that of the operation, and its acceptance and the beginning of the first one where
 * nothing is before it. A step found `begun` at the start was cut off by a crash: the host is looked at before it is
 * run again. What its error asks for (retry.ts) is done with a failed step: it is tried again with growing pauses until
 * the operation is out of time, or it sends the walk backwards through the undo of every step that was begun. Undo is
 * tried until it works: an operation that can't be undone stays visible as `undoing`, with its last error and its next
 * try, and lets those pass that may overtake it. Parts (parts.ts) have ended before anything of the whole is taken back.
 * The row in memory follows the journal's commits (run-journal.ts); so where the journal can't be written (a full disk)
 * the walk breaks off, and is taken up after a pause from where the journal stands. A run that is suspended (the daemon
 * goes down) writes nothing more, exactly as if it had crashed.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Retry, StepProgress } from '../../model/operation.ts';
import type { OperationRow, StepRow } from '../store/operations.ts';
import type { Store } from '../store/store.ts';
import type { ActContext, AnyWalk, Step } from './kind.ts';
import type { Parts } from './parts.ts';
import { pause } from './pause.ts';
import { classOf, Retries, type Tried } from './retry.ts';
import { RunJournal, type StepEnd } from './run-journal.ts';
import { StageEnds } from './stage-ends.ts';

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

/** Other operations on the same object that may go before an undo that waits. */
export interface Overtaking {
  /** Aborted when there is one. */
  arrival(): AbortSignal;
  /** Runs them. */
  letPass(): Promise<void>;
}

export class Run {
  readonly #clock: Clock;
  readonly #log: RunLog;
  readonly #walk: AnyWalk;
  readonly #row: OperationRow;
  readonly #journal: RunJournal;
  /** Cancelled or out of time: the steps stop, the undo begins. */
  readonly #stop = new AbortController();
  /** The daemon goes down: everything stops. */
  readonly #down = new AbortController();
  readonly #progress = new Map<number, StepProgress>();
  readonly #retries: Retries;
  readonly #parts: Parts;
  readonly #overtaking: Overtaking;
  /** Milliseconds since the epoch. */
  #undoingSince: number | null;
  /** Its first steps were begun with its acceptance, and nobody has run them yet. */
  #isFresh: boolean;
  /** Steps that were cut off: looked at before they act. */
  #cutOff: ReadonlySet<number> = new Set();

  constructor(parts: {
    store: Store;
    clock: Clock;
    log: RunLog;
    walk: AnyWalk;
    row: OperationRow;
    parts: Parts;
    /** Accepted by this daemon a moment ago: what is begun of it was not cut off. */
    isFresh: boolean;
    overtaking: Overtaking;
  }) {
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#walk = parts.walk;
    this.#row = parts.row;
    this.#parts = parts.parts;
    this.#overtaking = parts.overtaking;
    this.#isFresh = parts.isFresh;
    this.#retries = new Retries(parts.clock);
    this.#journal = new RunJournal({ ...parts, committed: () => this.#retries.over(JOURNAL) });
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
    this.#journal.transaction(() => {
      record();
      this.#journal.requestCancel();
      if (state === 'pending') this.#endUnbegun();
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
    const isFresh = this.#isFresh;
    this.#isFresh = false;
    this.#cutOff = new Set(isFresh ? [] : begun.map(({ position }) => position));
    try {
      this.#throwIfStopped();
      const stages = this.#openStages();
      if (stages.length > 0 && !(isFresh && begun.length > 0)) this.#begin(stages[0] as number[]);
      for (const [index, positions] of stages.entries()) {
        await this.#runStage(positions, stages[index + 1] ?? 'end');
      }
      this.#throwIfStopped();
      if (this.#row.state === 'running') this.#journal.transaction(() => this.#journal.succeed());
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
      .map((positions) => positions.filter((position) => this.#journal.stepRow(position).state !== 'done'))
      .filter((positions) => positions.length > 0);
  }

  /** The first step that fails stops those beside it, and is the reason. */
  async #runStage(positions: number[], following: Following): Promise<void> {
    const failed = new AbortController();
    const ends = new StageEnds(this.#clock, positions.length, (some, isLast) =>
      this.#endSteps(some, isLast ? following : []),
    );
    await Promise.allSettled(
      positions.map(async (position) => {
        try {
          const result = await this.#runStep(position, failed.signal);
          ends.add({ position, result });
        } catch (error) {
          failed.abort(error);
        }
      }),
    );
    ends.close();
    failed.signal.throwIfAborted();
  }

  async #runStep(position: number, besides: AbortSignal): Promise<unknown> {
    const step = this.#journal.step(position);
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
    this.#journal.transaction(() => {
      this.#journal.setState('undoing');
      this.#journal.setError(error);
      this.#journal.tell();
    });
    this.#undoingSince = this.#clock.now();
  }

  /** Takes back what was begun, last things first. */
  async #backward(): Promise<void> {
    await this.#parts.endAll(this.#down.signal);
    for (const step of this.#row.steps.toReversed()) {
      if (step.state === 'begun' || step.state === 'done') await this.#undoStep(step);
    }
    const state = this.#wasCancelled() ? 'cancelled' : 'failed';
    this.#journal.transaction(() => this.#journal.takenBack(state));
  }

  /** Not for a part that was cancelled, say: that is a failure of the whole. */
  #wasCancelled(): boolean {
    return this.#row.cancelRequestedAt !== null && this.#row.error?.code === 'CANCELLED';
  }

  async #undoStep(row: StepRow): Promise<void> {
    const step = this.#journal.step(row.position);
    const context = { signal: this.#down.signal, onProgress: () => undefined };
    const what = { step: step.name, doing: 'undo' } as const;
    while (step.undo !== undefined) {
      try {
        await step.undo(this.#row.plan, context);
        break;
      } catch (error) {
        this.#down.signal.throwIfAborted();
        await this.#pauseAfter(what, error, AbortSignal.any([context.signal, this.#overtaking.arrival()]));
        await this.#overtaking.letPass();
      }
    }
    this.#retries.over(what);
    this.#journal.transaction(() => this.#journal.undoneStep(row.position));
  }

  #endUnbegun(): void {
    this.#journal.setError(cancelled());
    this.#journal.takenBack('cancelled');
  }

  #begin(positions: readonly number[]): void {
    this.#journal.transaction(() => {
      this.#journal.setState('running');
      this.#journal.beginSteps(positions);
    });
  }

  #endSteps(ends: readonly StepEnd[], following: Following): void {
    this.#down.signal.throwIfAborted();
    for (const { position } of ends) this.#progress.delete(position);
    this.#journal.transaction(() => {
      this.#journal.endSteps(ends);
      if (following !== 'end') this.#journal.beginSteps(following);
      else if (!this.#stop.signal.aborted) this.#journal.succeed(ends);
    });
  }

  #context(position: number, besides: AbortSignal): ActContext {
    const context = {
      signal: AbortSignal.any([this.#stop.signal, this.#down.signal, besides]),
      onProgress: (progress: StepProgress) => void this.#progress.set(position, progress),
    };
    return {
      ...context,
      results: this.#journal.results(),
      runParts: (parts) => this.#parts.run(parts, context),
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
}

function cancelled(): AgentError {
  return new AgentError('CANCELLED', 'Cancelled by a caller');
}
