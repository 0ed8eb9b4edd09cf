/**
 * A child process's input and output as one Duplex. Its end is the process's end, and the other way round.
 *
 * Theory of operation:
 *
 *   write ──► stdin                            end()      stdin is closed, and the child may finish by itself
 *   read  ◄── stdout                           destroy()  the same, then SIGTERM, then SIGKILL, each after a while
 *   error ◄── end of the child, by `explain`, with what it printed on stderr
 *
 * Promises: `close` comes after the child has ended, so that neither a process nor a descriptor is left; a write that
 * fails since the child is gone is not an error of its own: what `explain` makes of the child's end is.
 */
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { Duplex } from 'node:stream';

/** How a child ended. */
export interface ChildEnd {
  /** null when it was killed by a signal. */
  code: number | null;
  /** The end of what it printed on stderr. */
  stderr: string;
  /** Whether it has ever sent anything. */
  hasAnswered: boolean;
}

/** Milliseconds for an orderly end once its input is closed, and again after SIGTERM. */
const GRACE_MS = 1_000;

/** Characters of stderr that are kept: a dozen lines. */
const STDERR_MAX_CHARACTERS = 2_048;

export class ChildStream extends Duplex {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<void>;
  #stderr = '';
  #hasAnswered = false;

  /** @param explain Makes the stream's error of the child's end, or null when that was in order. */
  constructor(child: ChildProcessWithoutNullStreams, explain: (end: ChildEnd) => Error | null) {
    super();
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once('close', (code) => {
        resolve();
        this.destroy(explain({ code, stderr: this.#stderr, hasAnswered: this.#hasAnswered }) ?? undefined);
      });
    });
    child.once('exit', () => this.#dropPipes());
    child.stderr.setEncoding('utf8').on('data', (text: string) => this.#stderrOnData(text));
    child.stdout.on('data', (chunk: Buffer) => this.#stdoutOnData(chunk));
    child.stdout.once('end', () => child.stdin.end());
    child.stdin.on('error', () => this.#hasten()); // it is ending, and will be explained
  }

  override _read(): void {
    this.#child.stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#child.stdin.write(chunk, (error) => {
      if (!error) done();
    });
  }

  override _final(done: () => void): void {
    this.#child.stdin.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#child.stdout.removeAllListeners('data').resume(); // or the child could wait for a reader for ever
    this.#child.stdin.end();
    this.#hasten();
    void this.#ended.then(() => done(error));
  }

  /** Lets the child end by itself for a while, then makes it. */
  #hasten(): void {
    const term = setTimeout(() => this.#child.kill('SIGTERM'), GRACE_MS);
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), 2 * GRACE_MS);
    void this.#ended.then(() => {
      clearTimeout(term);
      clearTimeout(kill);
    });
  }

  /** A child of the child may hold the pipes open after it: they are not waited for long. */
  #dropPipes(): void {
    const drop = setTimeout(() => {
      for (const stream of this.#child.stdio) stream?.destroy();
    }, GRACE_MS);
    void this.#ended.then(() => clearTimeout(drop));
  }

  #stdoutOnData(chunk: Buffer): void {
    this.#hasAnswered = true;
    if (!this.push(chunk)) this.#child.stdout.pause();
  }

  #stderrOnData(text: string): void {
    this.#stderr = (this.#stderr + text).slice(-STDERR_MAX_CHARACTERS);
  }
}
