/** Keeps extents of several disks, read one after the other, within a number of bytes a second. */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { DiskExtent } from '../../drivers/contracts/extents.ts';
import { pause } from '../operations/pause.ts';

export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number | undefined;
  /** When the next bytes may go, by the monotonic clock. */
  #dueMs = 0;

  /** @param bytesPerSecond Undefined for no limit. */
  constructor(clock: Clock, bytesPerSecond: number | undefined) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Each extent of data waits for the time that those before it take. */
  async *keep(extents: AsyncIterable<DiskExtent>, signal: AbortSignal): AsyncGenerator<DiskExtent> {
    for await (const extent of extents) {
      if (extent.type === 'data') await this.#wait(extent.data.length, signal);
      yield extent;
    }
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === undefined) return;
    const nowMs = this.#clock.monotonicMs();
    if (this.#dueMs > nowMs) await pause(this.#clock, this.#dueMs - nowMs, signal);
    this.#dueMs = Math.max(this.#dueMs, nowMs) + (1000 * bytes) / this.#bytesPerSecond;
  }
}
