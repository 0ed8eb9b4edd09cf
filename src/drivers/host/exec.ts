/**
 * The one place that starts processes.
 *
 * No shell, a clean environment, a deadline, bounded output, and a bounded number at once. A process that
 * outlives its deadline is killed, and the caller gets DEADLINE_EXCEEDED once it is gone, so that what it
 * was writing can be removed safely.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';

/** Children at once; a host tool takes tens of milliseconds, so more would only queue in the kernel. */
const CHILDREN_LIMIT = 16;
/** Callers waiting for a child; each is a driver call that has its own deadline. */
const WAITING_LIMIT = 1024;
/** Bytes kept of each output stream unless told otherwise; more is an error, since it would be cut JSON. */
const OUTPUT_BYTES_LIMIT = 4 * 1024 * 1024;
/** Deadline of a child unless told otherwise, milliseconds. */
const TIMEOUT_MS = 30_000;
/** Longest excerpt of a tool's own words in a message, in characters. */
const EXCERPT_LIMIT = 500;

/** Limits that prlimit(1) sets before the program runs. */
export interface ResourceLimits {
  addressSpaceBytes?: number;
  cpuSeconds?: number;
  fileSizeBytes?: number;
}

export interface RunOptions extends CallOptions {
  /** Written to standard input, then closed; without it standard input is empty. */
  input?: string | Buffer;
  outputLimitBytes?: number;
  limits?: ResourceLimits;
  /** Exit codes that are answers, not failures. @default [0] */
  okCodes?: readonly number[];
  cwd?: string;
  /** Gets each chunk of standard output as it comes, as for progress. */
  onStdout?: (chunk: string) => void;
}

export interface RunResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** A program ended otherwise than with one of `okCodes`; the cause of the driver's own AgentError. */
export class ProcessError extends Error {
  override readonly name = 'ProcessError';
  readonly program: string;
  readonly exitCode: number | null;
  readonly stderr: string;

  constructor(program: string, exitCode: number | null, stderr: string, how: string) {
    super(`${program} ${how}${stderr === '' ? '' : `: ${excerpt(stderr)}`}`);
    this.program = program;
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

export interface Exec {
  /**
   * Runs a program to its end.
   *
   * @param program Name or absolute path; found on the fixed path of SEARCH_PATH.
   * @throws {ProcessError} It ended with another code than `okCodes`, or by a signal.
   * @throws {AgentError} UNSUPPORTED: not installed. DEADLINE_EXCEEDED, CANCELLED: killed, and gone.
   *   LIMIT_REACHED: too much output, or too many callers waiting.
   */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
}

/** Where programs are looked for, whatever environment the agent was started in. */
const SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export class HostExec implements Exec {
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  async run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    options.signal?.throwIfAborted();
    await this.#takePlace(program);
    try {
      return await runChild(program, args, options);
    } finally {
      this.#leavePlace();
    }
  }

  async #takePlace(program: string): Promise<void> {
    if (this.#running < CHILDREN_LIMIT) {
      this.#running++;
      return;
    }
    if (this.#waiting.length >= WAITING_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `Cannot run ${program}: ${WAITING_LIMIT} calls wait already`);
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** The place passes straight to the next in line, so the count stays. */
  #leavePlace(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next();
  }
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

function runChild(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const [file, argv] = withLimits(program, args, options.limits);
  const child = spawn(file, argv, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: SEARCH_PATH, LC_ALL: 'C', HOME: '/nonexistent' },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const watch = new ChildWatch(program, child, options);
  return watch.ended();
}

function withLimits(
  program: string,
  args: readonly string[],
  limits: ResourceLimits | undefined,
): [string, string[]] {
  if (limits === undefined) return [program, [...args]];
  const flags = [
    ...(limits.addressSpaceBytes === undefined ? [] : [`--as=${limits.addressSpaceBytes}`]),
    ...(limits.cpuSeconds === undefined ? [] : [`--cpu=${limits.cpuSeconds}`]),
    ...(limits.fileSizeBytes === undefined ? [] : [`--fsize=${limits.fileSizeBytes}`]),
  ];
  return ['prlimit', [...flags, '--', program, ...args]];
}

/** One running child: collects its output, kills it when it must end, settles when it is gone. */
class ChildWatch {
  readonly #program: string;
  readonly #child: Child;
  readonly #options: RunOptions;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  #bytes = 0;
  /** Why it was killed by us; wins over how it then ended. */
  #verdict: AgentError | null = null;

  constructor(program: string, child: Child, options: RunOptions) {
    this.#program = program;
    this.#child = child;
    this.#options = options;
  }

  async ended(): Promise<RunResult> {
    const timeoutMs = this.#options.timeoutMs ?? TIMEOUT_MS;
    const timer = setTimeout(() => this.#kill('DEADLINE_EXCEEDED', `not done in ${timeoutMs} ms`), timeoutMs);
    const onAbort = () => this.#kill('CANCELLED', 'cancelled');
    this.#options.signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const { code, signal } = await this.#closed();
      return this.#judge(code, signal);
    } finally {
      clearTimeout(timer);
      this.#options.signal?.removeEventListener('abort', onAbort);
    }
  }

  #closed(): Promise<{ code: number | null; signal: string | null }> {
    const { promise, resolve, reject } = Promise.withResolvers<{
      code: number | null;
      signal: string | null;
    }>();
    this.#child.on('error', (error: NodeJS.ErrnoException) => reject(cannotStart(this.#program, error)));
    this.#child.on('close', (code, signal) => resolve({ code, signal }));
    this.#child.stdout.on('data', (chunk: Buffer) => this.#collect(this.#stdout, chunk));
    this.#child.stdout.on('data', (chunk: Buffer) => this.#options.onStdout?.(chunk.toString('utf8')));
    this.#child.stderr.on('data', (chunk: Buffer) => this.#collect(this.#stderr, chunk));
    // EPIPE: a child that does not read its input says why by its exit code.
    this.#child.stdin.on('error', () => undefined);
    this.#child.stdin.end(this.#options.input);
    return promise;
  }

  #collect(chunks: Buffer[], chunk: Buffer): void {
    this.#bytes += chunk.length;
    const limit = this.#options.outputLimitBytes ?? OUTPUT_BYTES_LIMIT;
    if (this.#bytes > limit) this.#kill('LIMIT_REACHED', `more than ${limit} bytes of output`);
    else chunks.push(chunk);
  }

  #kill(code: 'DEADLINE_EXCEEDED' | 'CANCELLED' | 'LIMIT_REACHED', why: string): void {
    this.#verdict ??= new AgentError(code, `${this.#program}: ${why}`);
    this.#child.kill('SIGKILL');
  }

  #judge(code: number | null, signal: string | null): RunResult {
    if (this.#verdict !== null) throw this.#verdict;
    const stderr = Buffer.concat(this.#stderr).toString('utf8').trim();
    if (code === null) throw new ProcessError(this.#program, null, stderr, `was ended by ${signal}`);
    if (!(this.#options.okCodes ?? [0]).includes(code)) {
      throw new ProcessError(this.#program, code, stderr, `ended with exit code ${code}`);
    }
    return { exitCode: code, stdout: Buffer.concat(this.#stdout).toString('utf8'), stderr };
  }
}

function cannotStart(program: string, error: NodeJS.ErrnoException): AgentError {
  if (error.code !== 'ENOENT')
    return new AgentError('UNAVAILABLE', `Cannot start ${program}`, { cause: error });
  return new AgentError('UNSUPPORTED', `${program} is not installed on this host`, {
    hint: `Install the package that has ${program}.`,
  });
}

function excerpt(text: string): string {
  return text.length > EXCERPT_LIMIT ? `${text.slice(0, EXCERPT_LIMIT)}…` : text;
}
