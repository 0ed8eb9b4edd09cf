/**
 * Uploads: brings together the operation that waits for an image's bytes and the callers who send them.
 *
 *   image.upload ─▶ receive(id) ─ opens ─▶ append(id, at, bytes) ─ … ─ all there ─▶ the operation goes on
 *
 * Nothing is kept here but who waits: how far an upload has come is in the pool, so an upload that a crash of the agent
 * or of its caller cut off goes on with the next ones. Bytes for an image that no operation waits for are refused.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { StoragePool } from '../../drivers/contracts/storage.ts';
import { bytesOfBase64 } from '../../model/base64.ts';
import { AgentError } from '../../model/errors.ts';

/** Pause between two pieces after which a caller is taken for gone, ms: time to come back over a restart. */
const IDLE_TIMEOUT_MS = 10 * 60_000;
/** How long bytes wait for the operation that is to take them, ms: it may be queued, or resumed after a restart. */
const OPENING_TIMEOUT_MS = 30_000;
/** Time for one piece, ms; the local socket gives it less. */
const APPEND_TIMEOUT_MS = 10 * 60_000;

interface Open {
  sizeBytes: number;
  onBytes(doneBytes: number): void;
  onNoRoom(error: AgentError): void;
}

export class Uploads {
  readonly #pool: StoragePool;
  readonly #clock: Clock;
  readonly #open = new Map<string, Open>();
  /** Called when an upload is opened. */
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor({ pool, clock }: { pool: StoragePool; clock: Clock }) {
    this.#pool = pool;
    this.#clock = clock;
  }

  /**
   * Resolves when all bytes of an image are in the pool.
   *
   * @throws {AgentError} DEADLINE_EXCEEDED: nothing came for too long. CAPACITY_EXCEEDED: the pool has no room for what
   *   came. The signal's reason when aborted.
   */
  async receive(
    id: string,
    sizeBytes: number,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (doneBytes: number) => void },
  ): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let cancelTimer: () => void = () => undefined;
    const onBytes = (doneBytes: number): void => {
      cancelTimer();
      onProgress(doneBytes);
      if (doneBytes === sizeBytes) resolve();
      else cancelTimer = this.#clock.after(IDLE_TIMEOUT_MS, () => reject(idle(doneBytes, sizeBytes)));
    };
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#open.set(id, { sizeBytes, onBytes, onNoRoom: reject });
    for (const wake of this.#waiting.get(id) ?? []) wake();
    try {
      onBytes(await this.#pool.lookUpload(id, { signal }));
      await promise;
    } finally {
      this.#open.delete(id);
      cancelTimer();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Bytes that are there. @throws {AgentError} ILLEGAL_STATE: no operation waits for them. */
  async look(id: string, signal?: AbortSignal): Promise<number> {
    await this.#opened(id, signal);
    return this.#pool.lookUpload(id);
  }

  /**
   * Appends bytes.
   *
   * @returns Bytes that are there now.
   * @throws {AgentError} ILLEGAL_STATE: no operation waits for them. STALE: others are there than `at`.
   *   LIMIT_REACHED: more than were announced.
   */
  async append(id: string, at: number, bytes: AsyncIterable<Buffer>, signal: AbortSignal): Promise<number> {
    const { sizeBytes } = await this.#opened(id, signal);
    const options = { signal, timeoutMs: APPEND_TIMEOUT_MS };
    try {
      const done = await this.#pool.appendUpload({ id, at, limitBytes: sizeBytes, bytes }, options);
      this.#open.get(id)?.onBytes(done);
      return done;
    } catch (thrown) {
      const error = AgentError.from(thrown);
      // What is there already takes room that others need: it goes with the operation.
      if (error.code === 'CAPACITY_EXCEEDED') this.#open.get(id)?.onNoRoom(error);
      throw thrown;
    }
  }

  async #opened(id: string, signal?: AbortSignal): Promise<Open> {
    if (!this.#open.has(id)) await this.#opening(id, signal);
    const open = this.#open.get(id);
    if (open !== undefined) return open;
    throw new AgentError('ILLEGAL_STATE', `No upload of image ${id} is waited for`, {
      hint: 'Begin one with image.upload; one that is whole already goes on by itself.',
    });
  }

  async #opening(id: string, signal?: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting.add(wake));
    const cancelTimer = this.#clock.after(OPENING_TIMEOUT_MS, wake);
    signal?.addEventListener('abort', wake, { once: true });
    await promise;
    cancelTimer();
    signal?.removeEventListener('abort', wake);
    waiting.delete(wake);
    if (waiting.size === 0) this.#waiting.delete(id);
  }
}

/** Bytes of an upload as a message brings them; where it brings none, how many are there. */
export async function appendBase64(
  uploads: Uploads,
  { image, at, data }: { image: string; at: number; data: string },
  signal: AbortSignal = new AbortController().signal,
): Promise<number> {
  const bytes = bytesOfBase64(data);
  if (bytes === null) throw new AgentError('INVALID_ARGUMENT', 'data is no base64');
  return bytes.length === 0 ? uploads.look(image, signal) : uploads.append(image, at, pieces(bytes), signal);
}

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

function idle(doneBytes: number, sizeBytes: number): AgentError {
  return new AgentError(
    'DEADLINE_EXCEEDED',
    `No bytes of the upload came for ${IDLE_TIMEOUT_MS / 60_000} minutes; ${doneBytes} of ${sizeBytes} are there`,
  );
}
