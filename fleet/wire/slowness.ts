/**
 * A line that is slow: so many milliseconds on the way, and so many bytes a second.
 */
import { Transform, type TransformCallback } from 'node:stream';

export interface Line {
  delayMs: number;
  bytesPerSecond: number;
}

/** A mobile link with a bad signal. */
export const BAD_LINE: Line = { delayMs: 150, bytesPerSecond: 64 * 1024 };

export class Slowness extends Transform {
  readonly #line: Line;

  constructor(line: Line) {
    super({ highWaterMark: line.bytesPerSecond });
    this.#line = line;
  }

  /** One piece after the other: who sends faster has to wait, as TCP has it. */
  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const { delayMs, bytesPerSecond } = this.#line;
    setTimeout(() => done(null, chunk), delayMs + (chunk.length / bytesPerSecond) * 1000).unref();
  }
}
