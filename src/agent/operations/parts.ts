/**
 * The parts of an operation that delegates: operations of their own, found again by keys made from the whole's id.
 *
 *   the whole   step ── runParts ─▶ submit, or find again ─▶ wait until all have succeeded
 *                 │ a part fails, or the whole is cancelled or out of time
 *                 ▼
 *               undo: parts that go on are cancelled, and have ended before anything of the whole is taken back
 *
 * A part that has succeeded stays done. When the daemon goes down nothing is cancelled: the next one resumes them all.
 */
import { AgentError } from '../../model/errors.ts';
import { hasEnded, type Operation } from '../../model/operation.ts';
import type { OperationRow } from '../store/operations.ts';
import type { Store } from '../store/store.ts';
import type { Part, StepContext } from './kind.ts';

/** Parts of one step; each is a row, and a run in memory. */
const PARTS_LIMIT = 256;

/** What parts need of those who run operations. */
export interface PartsHost {
  submitPart(whole: OperationRow, part: Part): Operation;
  /** The operation once it has ended. @throws The signal's reason. */
  untilEnded(id: string, signal: AbortSignal): Promise<Operation>;
  cancel(id: string): Operation;
}

/** A part has failed for good: asking for it again finds the same failure. */
export class PartFailure extends AgentError {}

/** No caller can give a part's key: theirs have no spaces. */
export function keyOfPart(wholeId: string, { name }: Part): string {
  return `part of ${wholeId}: ${name}`;
}

export class Parts {
  readonly #store: Store;
  readonly #host: PartsHost;
  readonly #whole: OperationRow;

  constructor(store: Store, host: PartsHost, whole: OperationRow) {
    this.#store = store;
    this.#host = host;
    this.#whole = whole;
  }

  /** As ActContext.runParts. */
  async run(parts: readonly Part[], { signal, onProgress }: StepContext): Promise<void> {
    if (parts.length > PARTS_LIMIT) {
      throw new AgentError(
        'INVALID_ARGUMENT',
        `${parts.length} parts asked; a step has ${PARTS_LIMIT} at most`,
      );
    }
    signal.throwIfAborted();
    const begun = parts.map((part) => this.#host.submitPart(this.#whole, part));
    let succeeded = 0;
    await Promise.all(
      begun.map(async ({ id }) => {
        const ended = await this.#host.untilEnded(id, signal);
        if (ended.state !== 'succeeded') throw failureOf(ended);
        succeeded++;
        const percent = Math.floor((100 * succeeded) / begun.length);
        onProgress({ percent, phase: `${succeeded} of ${begun.length} parts` });
      }),
    );
  }

  /** Cancels the parts that go on, and waits for their ends. */
  async endAll(signal: AbortSignal): Promise<void> {
    for (const { id, state } of this.#store.operations.childrenOf(this.#whole.id)) {
      if (!hasEnded(state)) this.#host.cancel(id);
    }
    for (const { id, state } of this.#store.operations.childrenOf(this.#whole.id)) {
      if (!hasEnded(state)) await this.#host.untilEnded(id, signal);
    }
  }
}

function failureOf({ kind, target, state, error }: Operation): PartFailure {
  const what = `${kind} of ${target.name}, a part of it, was ${state === 'cancelled' ? 'cancelled' : 'undone'}`;
  if (error === null) return new PartFailure('INTERNAL', what);
  return new PartFailure(error.code, what, { cause: AgentError.fromBody(error) });
}
