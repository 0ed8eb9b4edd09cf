/**
 * One queue for each object, and a limit on how many run at once: one slow thing slows only itself.
 *
 * Tasks of one key run in order, one at a time. Tasks of different keys run together, up to `parallel`. A task that
 * has to wait for what only a later one can bring lets those pass that may overtake it.
 */
import { AgentError } from '../../model/errors.ts';

/** Operations that may wait on one object; more is a caller that does not look at the answers. */
const DEPTH_LIMIT = 16;

/** What a task takes of those that run together; `none` where it only waits for others of this queue. */
export type Place = 'one' | 'none';

type Task = () => Promise<void>;

interface Line {
  /** Tasks that run or wait. */
  depth: number;
  tail: Promise<void>;
  /** Those that may go before the one that runs now. */
  overtakers: Set<Task>;
  /** Aborted when one comes; there only while the one that runs now waits. */
  arrival: AbortController | null;
}

export class KeyedQueue {
  readonly #parallel: number;
  readonly #lines = new Map<string, Line>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(parallel: number) {
    this.#parallel = parallel;
  }

  /** @throws {AgentError} LIMIT_REACHED; asked before anything is written for the task. */
  assertRoom(key: string): void {
    if ((this.#lines.get(key)?.depth ?? 0) < DEPTH_LIMIT) return;
    throw new AgentError('LIMIT_REACHED', `${DEPTH_LIMIT} operations on it wait already`, {
      hint: 'Wait for them, or cancel some.',
    });
  }

  /** Whether a task is sure to run at once if it is pushed now. */
  isFree(key: string, place: Place): boolean {
    return !this.#lines.has(key) && (place === 'none' || this.#lines.size < this.#parallel);
  }

  /**
   * @param task Never rejects.
   * @param how.overtakes It may go before the one that runs, where that lets it pass. @default false
   */
  push(key: string, task: Task, how: { place: Place; overtakes?: boolean } = { place: 'one' }): void {
    const line = this.#lines.get(key) ?? newLine();
    const once = inItsTurn(line, task);
    line.depth++;
    line.tail = line.tail.then(async () => {
      await this.#inPlace(how.place, once);
      if (--line.depth === 0) this.#lines.delete(key);
    });
    this.#lines.set(key, line);
    if (!how.overtakes) return;
    line.overtakers.add(once);
    line.arrival?.abort();
  }

  /** Asked by the task that runs, where it waits: aborted when there is one that may go before it. */
  arrivalOf(key: string): AbortSignal {
    const line = this.#lines.get(key);
    if (line === undefined || line.overtakers.size > 0) return AbortSignal.abort();
    line.arrival = new AbortController();
    return line.arrival.signal;
  }

  /** Called by the task that runs, where it waits: runs those that may go before it, in its place. */
  async letPass(key: string): Promise<void> {
    for (const task of this.#lines.get(key)?.overtakers ?? []) await task();
  }

  /** Resolves when all that was pushed until now is over. */
  async idle(): Promise<void> {
    await Promise.all([...this.#lines.values()].map(({ tail }) => tail));
  }

  async #inPlace(place: Place, task: Task): Promise<void> {
    if (place === 'one') await this.#takePlace();
    await task();
    if (place === 'one') this.#leavePlace();
  }

  async #takePlace(): Promise<void> {
    if (this.#running < this.#parallel) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leavePlace(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next();
  }
}

function newLine(): Line {
  return { depth: 0, tail: Promise.resolve(), overtakers: new Set(), arrival: null };
}

/** The task for the turn that comes first, and nothing for the other. */
function inItsTurn(line: Line, task: Task): Task {
  let hasRun = false;
  return async function inTurn() {
    if (hasRun) return;
    hasRun = true;
    line.overtakers.delete(inTurn);
    await task();
  };
}
