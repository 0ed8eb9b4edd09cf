/**
 * The journal row of one operation: each change of it is written within a transaction, and the row in memory follows
 * once that is committed, never ahead of it.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { AgentError, ErrorCode } from '../../model/errors.ts';
import { endEntry } from '../audit/entries.ts';
import { type OperationRow, type StepRow, viewOf } from '../store/operations.ts';
import type { Store } from '../store/store.ts';
import { type AnyWalk, type Step, stepsOf } from './kind.ts';

export type EndState = 'succeeded' | 'failed' | 'cancelled';

/** What a step has answered that is done. */
export interface StepEnd {
  position: number;
  result: unknown;
}

export class RunJournal {
  readonly row: OperationRow;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #walk: AnyWalk;
  /** Told after each commit. */
  readonly #committed: () => void;

  constructor(parts: {
    store: Store;
    clock: Clock;
    walk: AnyWalk;
    row: OperationRow;
    committed: () => void;
  }) {
    this.row = parts.row;
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#walk = parts.walk;
    this.#committed = parts.committed;
  }

  step(position: number): Step<unknown> {
    return stepsOf(this.#walk)[position] as unknown as Step<unknown>;
  }

  stepRow(position: number): StepRow {
    return this.row.steps[position] as StepRow;
  }

  /** By the names of the steps. */
  results(): Record<string, unknown> {
    return Object.fromEntries(this.row.steps.map((step) => [step.name, step.result]));
  }

  transaction(body: () => void): void {
    this.#store.db.transaction(body);
  }

  beginSteps(positions: readonly number[]): void {
    const at = timestamp(this.#clock);
    for (const position of positions) {
      this.#store.operations.beginStep(this.row.id, position, at);
      this.#onCommit(this.stepRow(position), { state: 'begun', startedAt: at });
    }
  }

  endSteps(ends: readonly StepEnd[]): void {
    const at = timestamp(this.#clock);
    for (const { position, result } of ends) {
      this.#store.operations.endStep(this.row.id, position, { state: 'done', result, at });
      this.#onCommit(this.stepRow(position), { state: 'done', result, endedAt: at });
      this.step(position).record?.(this.row.plan, result);
    }
    this.#forget(ends.map(({ position }) => this.step(position)));
  }

  undoneStep(position: number): void {
    const at = timestamp(this.#clock);
    this.#store.operations.endStep(this.row.id, position, { state: 'undone', at });
    this.#onCommit(this.stepRow(position), { state: 'undone', endedAt: at });
  }

  setState(state: 'running' | 'undoing'): void {
    const at = timestamp(this.#clock);
    this.#store.operations.setState(this.row.id, state, at);
    this.#onCommit(this.row, { state, startedAt: this.row.startedAt ?? at });
  }

  setError(error: AgentError): void {
    const body = error.toBody();
    this.#store.operations.setError(this.row.id, body);
    this.#onCommit(this.row, { error: body });
  }

  requestCancel(): void {
    const at = timestamp(this.#clock);
    this.#store.operations.requestCancel(this.row.id, at);
    this.#onCommit(this.row, { cancelRequestedAt: at });
    this.tell();
  }

  /** @param last What the last steps have answered, whose ends are in the same commit. */
  succeed(last: readonly StepEnd[] = []): void {
    const ends = last.map(({ position, result }) => [this.step(position).name, result]);
    this.#walk.succeeded(this.row.plan as never, { ...this.results(), ...Object.fromEntries(ends) });
    this.#release(this.#walk.removes);
    this.#end('succeeded');
  }

  /** Ends it after all is taken back. */
  takenBack(state: 'failed' | 'cancelled'): void {
    this.#walk.undone(this.row.plan as never);
    this.#release(this.#walk.makes);
    this.#end(state);
  }

  tell(): void {
    tellOperation(this.#store, this.row.id);
  }

  #end(state: EndState): void {
    const endedAt = timestamp(this.#clock);
    this.#store.operations.end(this.row.id, state, endedAt);
    if (this.row.parentId === null) this.#store.audit.append(endEntry(this.row, state, this.#codeOf(state)));
    this.#onCommit(this.row, { state, endedAt });
    this.tell();
  }

  #codeOf(state: EndState): ErrorCode | null {
    if (state === 'succeeded') return null;
    return state === 'cancelled' ? 'CANCELLED' : (this.row.error?.code ?? null);
  }

  /** The names stay in the journal, as proof for what may be found of them later. */
  #release(namesOf: AnyWalk['makes']): void {
    this.#store.names.release(namesOf?.(this.row.plan as never) ?? [], timestamp(this.#clock));
  }

  #forget(steps: readonly Step<unknown>[]): void {
    const forgetting = steps.filter(({ forget }) => forget !== undefined);
    if (forgetting.length === 0) return;
    const plan = forgetting.reduce((left, { forget }) => forget?.(left), this.row.plan);
    this.#store.operations.setPlan(this.row.id, plan);
    this.#onCommit(this.row, { plan });
  }

  #onCommit<T extends object>(row: T, change: Partial<T>): void {
    this.#store.db.onCommit(() => {
      Object.assign(row, change);
      this.#committed();
    });
  }
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
