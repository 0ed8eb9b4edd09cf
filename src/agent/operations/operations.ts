/**
 * Operations: accepted into the journal, run by one runner an object, resumed at start.
 *
 * The way of a command: fence → the kind's own decision → one transaction (operation, first rows, names) →
 * the object's queue → the run. The answer is given after the commit, before anything acts.
 */
import { randomUUID } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { Principal } from '../../model/audit.ts';
import { AgentError } from '../../model/errors.ts';
import type { OperationMethod, Params } from '../../model/methods.ts';
import { type Asker, hasEnded, type Operation, type Retry } from '../../model/operation.ts';
import { agentItself, callEntry, endEntry } from '../audit/entries.ts';
import { type OperationFilter, type OperationRow, viewOf } from '../store/operations.ts';
import type { Store } from '../store/store.ts';
import { takeEpoch } from './epoch.ts';
import { digestOfRequest } from './fence.ts';
import { giveUpMaking } from './half-made.ts';
import { type Accepted, type AnyKind, type AnyWalk, type Part, stepsOf, walkOf } from './kind.ts';
import { keyOfPart, Parts } from './parts.ts';
import { KeyedQueue, type Place } from './queue.ts';
import { Run, type RunLog } from './run.ts';
import { tellOperation } from './run-journal.ts';

/** Unfinished operations of the whole node; each holds a plan in memory while it runs. */
const UNFINISHED_LIMIT = 2_000;

interface Submission {
  method: OperationMethod;
  params: unknown;
  /** Of method and params, without the fence. */
  digest: string;
  asker: Asker;
  who: Principal;
  fence: { key?: string; epoch?: number };
  /** The operation that it is a part of. */
  whole: OperationRow | null;
}

/** An operation that does not simply go forward. */
export interface TroubledOperation {
  id: string;
  kind: string;
  target: string;
  retry: Retry | null;
  /** Milliseconds since the epoch. */
  undoingSince: number | null;
  /** Why it is undone, in words. */
  error: string | null;
}

export class Operations {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: RunLog;
  readonly #timeoutMs: number;
  readonly #kinds: ReadonlyMap<string, AnyKind>;
  readonly #queue: KeyedQueue;
  readonly #runs = new Map<string, Run>();
  /** Called when an operation ends. */
  readonly #waiters = new Map<string, Set<() => void>>();
  /** Accepted, not ended. */
  #unfinished = 0;
  #stopped = false;

  constructor(parts: {
    store: Store;
    clock: Clock;
    log: RunLog;
    kinds: readonly AnyKind[];
    parallel: number;
    timeoutMs: number;
  }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#timeoutMs = parts.timeoutMs;
    this.#kinds = new Map(parts.kinds.map((kind) => [kind.method, kind]));
    this.#queue = new KeyedQueue(parts.parallel);
  }

  /** Takes up what the last daemon left unfinished. */
  resume(): void {
    for (const row of this.#store.operations.unfinished()) this.#enqueue(row, { isFresh: false });
  }

  /**
   * Accepts a command, and answers with its operation once that is durable.
   *
   * @param asker Who asks; shown with the operation. @default 'operator'
   * @param who The same for the audit log. @default the agent itself
   * @throws {AgentError} Whatever the fence or the kind's decision says; nothing is written then.
   */
  submit<M extends OperationMethod>(
    method: M,
    params: Params<M>,
    asker: Asker = 'operator',
    who: Principal = agentItself(asker),
  ): Operation {
    return this.#submit(method, params, { asker, who, whole: null });
  }

  /** Submits a part of an operation that runs, or answers with the one that was submitted before. */
  submitPart(whole: OperationRow, part: Part): Operation {
    if (whole.parentId !== null || !this.#kinds.get(whole.kind)?.delegates) {
      throw new Error(`${whole.kind} does not delegate, or is a part itself: it would wait for ever`);
    }
    const params = { ...part.params, key: keyOfPart(whole.id, part) } as Params<OperationMethod>;
    const asker = whole.askedBy ?? 'operator';
    return this.#submit(part.method, params, { asker, who: agentItself(asker), whole });
  }

  #submit(
    method: OperationMethod,
    params: Params<OperationMethod>,
    { asker, who, whole }: Pick<Submission, 'asker' | 'who' | 'whole'>,
  ): Operation {
    const fence = params as { key?: string; epoch?: number };
    const digest = digestOfRequest(method, params as Record<string, unknown>);
    const repeated = this.#repeated(fence.key, digest);
    if (repeated !== null) return this.view(repeated);
    this.#assertTaking(method);
    const submission = { method, params, digest, asker, who, fence, whole };
    const row = this.#store.db.transaction(() => this.#accept(submission));
    if (!hasEnded(row.state)) this.#enqueue(row, { isFresh: true });
    return this.view(row);
  }

  get(id: string): Operation {
    return this.view(this.#store.operations.get(id));
  }

  list(filter: OperationFilter): Operation[] {
    return this.#store.operations.list(filter).map((row) => this.view(row));
  }

  /** The operation once it has ended, or as it is after `timeoutMs` milliseconds or when the signal is aborted. */
  async wait(id: string, timeoutMs: number, signal?: AbortSignal): Promise<Operation> {
    const now = this.get(id);
    if (hasEnded(now.state) || timeoutMs === 0 || signal?.aborted) return now;
    await this.#ended(id, timeoutMs, signal);
    return this.get(id);
  }

  /** The operation once it has ended, however long that takes. @throws The signal's reason. */
  async untilEnded(id: string, signal: AbortSignal): Promise<Operation> {
    signal.throwIfAborted();
    if (!hasEnded(this.get(id).state)) await this.#ended(id, null, signal);
    const now = this.get(id);
    if (!hasEnded(now.state)) signal.throwIfAborted();
    return now;
  }

  /**
   * Asks it to stop; one that has ended is answered as it is.
   *
   * @param record Called within the transaction, where there is one. @default records nothing
   */
  cancel(id: string, record: () => void = () => undefined): Operation {
    const before = this.#store.operations.get(id);
    this.#runs.get(id)?.cancel(record);
    const row = this.#store.operations.get(id);
    if (before.state === 'pending' && hasEnded(row.state)) this.#settle(id);
    return this.view(row);
  }

  view(row: OperationRow): Operation {
    const { progress = null, retry = null } = this.#runs.get(row.id) ?? {};
    return viewOf(row, { progress, retry, children: this.#store.operations.countChildren(row.id) });
  }

  /** Operations that wait to be tried again, or are being undone, as far as there are any. */
  *inTrouble(): Generator<TroubledOperation> {
    for (const [id, { row, retry, undoingSince }] of this.#runs) {
      const { kind, target, error } = row;
      if (retry === null && undoingSince === null) continue;
      yield { id, kind, target: target.name, retry, undoingSince, error: error?.message ?? null };
    }
  }

  /** Takes nothing more, and leaves what runs to the next daemon. */
  async suspend(): Promise<void> {
    this.#stopped = true;
    for (const run of this.#runs.values()) run.suspend();
    await this.#queue.idle();
  }

  #repeated(key: string | undefined, digest: string): OperationRow | null {
    const first = key === undefined ? null : this.#store.operations.findByKey(key);
    if (first === null || first.requestDigest === digest) return first;
    throw new AgentError(
      'KEY_REUSED',
      `The key ${key} was used for another request (operation ${first.id})`,
      {
        hint: 'Use a fresh key for each new request.',
        details: { operation: first.id },
      },
    );
  }

  #assertTaking(method: string): void {
    if (this.#stopped) throw new AgentError('UNAVAILABLE', `Cannot take ${method}: the agent is going down`);
    if (this.#unfinished < UNFINISHED_LIMIT) return;
    throw new AgentError(
      'LIMIT_REACHED',
      `Cannot take ${method}: ${UNFINISHED_LIMIT} operations are unfinished`,
    );
  }

  #accept(submission: Submission): OperationRow {
    const { method, params, asker, who, fence, whole } = submission;
    takeEpoch(this.#store.meta, fence.epoch);
    const kind = this.#kinds.get(method);
    if (kind === undefined) throw new AgentError('UNSUPPORTED', `No operation ${method} in this build`);
    const accepted = kind.accept(params as never, asker);
    this.#queue.assertRoom(queueKey(accepted.target));
    if (whole !== null && queueKey(whole.target) === queueKey(accepted.target)) {
      throw new Error(`a part of ${whole.kind} about its own ${accepted.target.kind} would wait for ever`);
    }
    const row = this.#newRow(kind, accepted, submission);
    this.#store.operations.insert(row);
    if (!hasEnded(row.state)) this.#nameThings(kind, row);
    if (whole === null) this.#store.audit.append(callEntry(method, params, who, row));
    this.#store.operations.trim();
    tellOperation(this.#store, row.id);
    return row;
  }

  /** What will be made or removed is in the journal by name before anything of it happens (promise 4). */
  #nameThings(kind: AnyKind, { id, target, plan, createdAt }: OperationRow): void {
    const of = { object: { kind: target.kind, id: target.id }, operationId: id, at: createdAt };
    this.#store.names.plan(kind.makes?.(plan as never) ?? [], of);
    this.#store.names.planRemoval(kind.removes?.(plan as never) ?? [], of);
  }

  #newRow(
    kind: AnyKind,
    accepted: Accepted<unknown>,
    { digest, asker, fence, whole }: Submission,
  ): OperationRow {
    const at = timestamp(this.#clock);
    const runs = accepted.verdict === 'run';
    const steps = runs ? stepsOf(kind) : [];
    // What nothing is before begins with its acceptance, in one commit.
    const begins = runs && this.#queue.isFree(queueKey(accepted.target), placeOf(kind));
    const firstSteps = begins ? (kind.stages[0]?.length ?? 0) : 0;
    return {
      id: randomUUID(),
      kind: kind.method,
      parentId: whole?.id ?? null,
      cancelRequestedAt: null,
      version: kind.version,
      target: accepted.target,
      askedBy: asker,
      state: stateOf({ runs, begins }),
      key: fence.key ?? null,
      requestDigest: digest,
      plan: runs ? accepted.plan : null,
      error: null,
      createdAt: at,
      startedAt: begins ? at : null,
      endedAt: runs ? null : at,
      steps: steps.map(({ name }, position) => ({
        position,
        name,
        state: position < firstSteps ? 'begun' : 'waiting',
        result: undefined,
        startedAt: position < firstSteps ? at : null,
        endedAt: null,
      })),
    };
  }

  #enqueue(row: OperationRow, { isFresh }: { isFresh: boolean }): void {
    const kind = this.#kinds.get(row.kind);
    const walk = walkOf(kind, row.version);
    if (walk === undefined) {
      this.#refuseUnknown(row);
      return;
    }
    this.#unfinished++;
    const key = queueKey(row.target);
    const parts = new Parts(this.#store, this, row);
    const run = new Run({
      store: this.#store,
      clock: this.#clock,
      log: this.#log,
      walk,
      row,
      parts,
      isFresh,
      overtaking: { arrival: () => this.#queue.arrivalOf(key), letPass: () => this.#queue.letPass(key) },
    });
    this.#runs.set(row.id, run);
    const overtakes = walk.overtakes?.(row.plan as never) ?? false;
    this.#queue.push(key, () => this.#execute(run, walk, row), { place: placeOf(kind), overtakes });
  }

  /** In a turn of its own: whoever has asked for it is answered first. */
  async #execute(run: Run, walk: AnyWalk, row: OperationRow): Promise<void> {
    await turn();
    if (this.#stopped || !this.#runs.has(row.id)) return;
    await run.execute(walk.timeoutMs?.(row.plan as never) ?? this.#timeoutMs);
    if (hasEnded(row.state)) this.#settle(row.id);
  }

  /** Another version of Berth began it with steps that this one does not have: it ends visibly, as failed. */
  #refuseUnknown(row: OperationRow): void {
    const error = new AgentError(
      'UNSUPPORTED',
      `Operation ${row.id} (${row.kind} version ${row.version}) was begun by another version of Berth`,
      {
        hint: 'Look at what it left; what it was making can be deleted.',
      },
    );
    this.#store.db.transaction(() => {
      this.#store.operations.setError(row.id, error.toBody());
      this.#store.operations.end(row.id, 'failed', timestamp(this.#clock));
      if (row.parentId === null) this.#store.audit.append(endEntry(row, 'failed', error.code));
      giveUpMaking(this.#store, row.target);
      tellOperation(this.#store, row.id);
    });
    this.#settle(row.id);
  }

  #settle(id: string): void {
    if (this.#runs.delete(id)) this.#unfinished--;
    for (const wake of this.#waiters.get(id) ?? []) wake();
  }

  /** @param timeoutMs Milliseconds; null to wait for as long as it takes. */
  #ended(id: string, timeoutMs: number | null, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiters = this.#waiters.get(id) ?? new Set();
    this.#waiters.set(id, waiters);
    const wake = () => resolve();
    const cancelTimer = timeoutMs === null ? () => undefined : this.#clock.after(timeoutMs, wake);
    signal?.addEventListener('abort', wake, { once: true });
    waiters.add(resolve);
    return promise.finally(() => {
      cancelTimer();
      signal?.removeEventListener('abort', wake);
      waiters.delete(resolve);
      if (waiters.size === 0) this.#waiters.delete(id);
    });
  }
}

function queueKey(target: { kind: string; id: string }): string {
  return `${target.kind}:${target.id}`;
}

function placeOf(kind: AnyKind | undefined): Place {
  return kind?.delegates ? 'none' : 'one';
}

function stateOf({ runs, begins }: { runs: boolean; begins: boolean }): OperationRow['state'] {
  if (!runs) return 'succeeded';
  return begins ? 'running' : 'pending';
}
