/**
 * What an operation is made of: a kind declares named steps, and the two transactions at its ends.
 *
 *   accept ──▶ stage 1 ──▶ stage 2 ──▶ … ──▶ succeeded
 *    (tx)      steps run together             (tx)
 *                   │ a step fails
 *                   ▼
 *              undo of every step begun, in reverse ──▶ undone (tx)
 *
 * A step is idempotent, knows only its plan, and can look at the host to see whether it is done already.
 * The plan holds the exact names of all that will be made, and is in the journal before anything acts. `makes` and
 * `removes` tell these names: they stay in the journal beyond the operation (src/agent/store/names.ts).
 * To add one, see "Add an operation" in CONTRIBUTING.md.
 */
import type { OperationMethod, Params } from '../../model/methods.ts';
import type { Asker, ObjectKind, StepProgress } from '../../model/operation.ts';
import type { MadeName } from '../store/names.ts';

export interface StepContext {
  /** Aborted when the operation is cancelled or out of time, a step beside it failed, or the daemon goes down. */
  signal: AbortSignal;
  onProgress(progress: StepProgress): void;
}

/** An operation that a step has done for it: journaled, run and shown as any other. */
export type Part = {
  [M in OperationMethod]: {
    /** Unique among the parts of one operation, and the same after a restart. */
    name: string;
    method: M;
    params: Omit<Params<M>, 'key' | 'epoch'>;
  };
}[OperationMethod];

export interface ActContext extends StepContext {
  /** What the steps of earlier stages have answered, as it is journaled; by their names. */
  results: Readonly<Record<string, unknown>>;
  /**
   * Submits the parts, or finds those again that were submitted before a crash, and waits until all have succeeded.
   * For kinds that delegate. A part must not be about the operation's own object, whose queue it would wait in.
   *
   * @throws {AgentError} The first failure of a part. The others are cancelled before the operation is undone.
   */
  runParts(parts: readonly Part[]): Promise<void>;
}

/** What a look at the host found: null when the step is not done; else its result, if it has one. */
export type Looked = { result?: unknown } | null;

export interface Step<P> {
  name: string;
  /** Asked before the step is run again after a crash. Throws where the host can't be asked. */
  look(plan: P, context: StepContext): Promise<Looked>;
  /** Does it; what it answers is journaled as the step's result. */
  act(plan: P, context: ActContext): Promise<unknown>;
  /** Writes rows that tell what it has learnt, in the transaction that journals its end: no commit of its own. */
  record?(plan: P, result: unknown): void;
  /** Takes it back, done in part or whole. Idempotent. Steps that change nothing have none. */
  undo?(plan: P, context: StepContext): Promise<void>;
  /**
   * The plan without what may be forgotten as soon as the step is done, such as secrets; journaled with its end. Neither
   * the undo of the step nor any later step may need that.
   */
  forget?(plan: P): unknown;
  /** How long it is tried again, milliseconds from its first failure. @default until the operation's deadline */
  retryForMs?: number;
}

export interface Target {
  kind: ObjectKind;
  id: string;
  name: string;
}

/** `done`: nothing to do, the repeat of what is so already. */
export type Accepted<P> = { verdict: 'run'; target: Target; plan: P } | { verdict: 'done'; target: Target };

/** How operations of one version are walked to their end. */
export interface Walk<P> {
  /** Grows when the steps or the plan change, so that a journal of another version is recognised. */
  version: number;
  stages: readonly (readonly Step<P>[])[];
  /** Milliseconds; the configured limit where absent. */
  timeoutMs?(plan: P): number | undefined;
  /**
   * Whether it goes before an undo of its object that failed and waits to be tried again, since it can bring what that
   * waits for. Its steps must bear with what is half taken back. @default false
   */
  overtakes?(plan: P): boolean;
  /**
   * Names of all that will be made on the host; pure. They are journaled with the operation before anything acts, and
   * released when it is undone.
   */
  makes?(plan: P): readonly MadeName[];
  /** Names of all that will be removed from the host; pure. They are released when the operation has succeeded. */
  removes?(plan: P): readonly MadeName[];
  /** Writes the last rows, in the transaction that ends the operation. */
  succeeded(plan: P, results: Readonly<Record<string, unknown>>): void;
  /** Writes the last rows after all is taken back (or left, where steps have no undo). */
  undone(plan: P): void;
}

export interface OperationKind<M extends OperationMethod, P> extends Walk<P> {
  method: M;
  /** Its steps only wait for parts: it takes no place among the operations that run at once. @default false */
  delegates?: boolean;
  /** Decides and writes the first rows, in the transaction that journals the operation. Throws to refuse. */
  accept(params: Params<M>, asker: Asker): Accepted<P>;
  /**
   * How operations begun by older versions of Berth are ended, each as it was begun. One is kept for as long as an
   * upgrade from that version is supported.
   */
  past?: readonly AnyWalk[];
}

/** A walk that gets back its own plan, whatever that is. */
export interface AnyWalk {
  version: number;
  stages: readonly (readonly Step<never>[])[];
  timeoutMs?(plan: never): number | undefined;
  overtakes?(plan: never): boolean;
  makes?(plan: never): readonly MadeName[];
  removes?(plan: never): readonly MadeName[];
  succeeded(plan: never, results: Readonly<Record<string, unknown>>): void;
  undone(plan: never): void;
}

/** A kind as the registry holds it: each gets back its own params and plan. */
export interface AnyKind extends AnyWalk {
  method: OperationMethod;
  delegates?: boolean;
  accept(params: never, asker: Asker): Accepted<unknown>;
  past?: readonly AnyWalk[];
}

/** The walk of a kind's operations of one version, or undefined where this Berth no longer has it. */
export function walkOf(kind: AnyKind | undefined, version: number): AnyWalk | undefined {
  return kind?.version === version ? kind : kind?.past?.find((walk) => walk.version === version);
}

/** All steps of a walk in order, as they are numbered in the journal. */
export function stepsOf(walk: AnyWalk): Step<never>[] {
  return walk.stages.flat();
}
