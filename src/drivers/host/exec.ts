/**
 * The one place that starts processes.
 *
 * No shell, a clean environment, a deadline, bounded output, and a bounded number at once. A process that
 * outlives its deadline is killed together with its own children, and the caller gets DEADLINE_EXCEEDED once
 * it is gone, so that what it was writing can be removed safely. The deadline covers the wait for a place.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';
import { CallLimit } from './call-limit.ts';
import { Places } from './places.ts';
import { caged, endingWithUs, limited, type ResourceLimits, type SandboxUser } from './sandbox.ts';

/** Bytes kept of each output stream unless told otherwise; more is an error, since it would be cut JSON. */
const OUTPUT_BYTES_LIMIT = 4 * 1024 * 1024;
/** Deadline of a child unless told otherwise, milliseconds. */
const TIMEOUT_MS = 30_000;
/** Exit code of prlimit, unshare and setpriv where there is no such program to run. @see EX_EXEC_ENOENT, util-linux exitcodes.h */
const NOT_FOUND_CODE = 127;
/** The first descriptor after those that every process has. */
const FIRST_LENT = 3;
/** Longest excerpt of a tool's own words in a message, in characters. */
const EXCERPT_LIMIT = 500;

/** Name of a file inside a child, by its place among the `files` that the child gets. */
export function lent(index: number): string {
  return `/dev/fd/${FIRST_LENT + index}`;
}

export interface RunOptions extends CallOptions {
  /** Written to standard input, then closed; without it standard input is empty. */
  input?: string | Buffer;
  outputLimitBytes?: number;
  limits?: ResourceLimits;
  /** Runs it in the cage of sandbox.ts, as this user (null: as ours), under `limits`. */
  sandbox?: SandboxUser | null;
  /**
   * Among whom it takes a place: what stays for as long as somebody reads it keeps none from tools, and ends with us.
   *
   * @default 'tools'
   */
  lane?: 'tools' | 'servers';
  /** Open files that the program gets as its descriptors 3, 4 and so on. They stay open here. */
  files?: readonly number[];
  /** Open file that the program reads as its standard input, from where it stands. */
  stdinFile?: number;
  /** Exit codes that are answers, not failures. @default [0] */
  okCodes?: readonly number[];
  cwd?: string;
  /** Added to the clean environment. */
  env?: Readonly<Record<string, string>>;
  /** Gets each chunk of standard output as it comes, as for progress. */
  onStdout?: (chunk: string) => void;
  /** Takes standard output instead of `RunResult.stdout`, at its own pace and without a limit; what it throws ends the program. */
  consume?: (chunk: Buffer) => Promise<void>;
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
   *   LIMIT_REACHED: too much output (`details.outputLimitBytes`), or too many callers waiting. INVALID_ARGUMENT: a NUL or too many bytes.
   */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
}

/** Where programs are looked for, whatever environment the agent was started in; folders by colons. */
export const SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export class HostExec implements Exec {
  readonly #lanes = { tools: new Places(), servers: new Places() };

  async run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    using limit = new CallLimit(program, options, TIMEOUT_MS);
    limit.check();
    const places = this.#lanes[options.lane ?? 'tools'];
    await places.take(program, limit);
    try {
      return await runChild(program, args, options, limit);
    } finally {
      places.leave();
    }
  }
}

/** Standard input is a file of the caller's where there is no stream. */
type Child = ChildProcessByStdio<Writable | null, Readable, Readable>;

async function runChild(
  program: string,
  args: readonly string[],
  options: RunOptions,
  limit: CallLimit,
): Promise<RunResult> {
  limit.check();
  const child = start(program, args, options);
  return await new ChildWatch(program, child, options, limit).ended();
}

/** In a process group of its own, so that it can be killed with all that it started. */
function start(program: string, args: readonly string[], options: RunOptions): Child {
  const [file, ...argv] = commandLine(program, args, options);
  try {
    return spawn(file as string, argv, {
      stdio: [options.stdinFile ?? 'pipe', 'pipe', 'pipe', ...(options.files ?? [])],
      env: { PATH: SEARCH_PATH, LC_ALL: 'C', HOME: '/nonexistent', ...options.env },
      detached: true,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    }) as Child;
  } catch (error) {
    throw cannotStart(program, error as NodeJS.ErrnoException);
  }
}

function commandLine(
  program: string,
  args: readonly string[],
  { limits, sandbox, lane }: RunOptions,
): readonly string[] {
  const command = lane === 'servers' ? endingWithUs([program, ...args]) : [program, ...args];
  if (sandbox !== undefined) return caged(sandbox, limits ?? {}, command);
  return limits === undefined ? command : limited(limits, command);
}

/** One running child: collects its output, kills it when it must end, settles when it is gone. */
class ChildWatch {
  readonly #program: string;
  readonly #child: Child;
  readonly #options: RunOptions;
  readonly #limit: CallLimit;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  #bytes = 0;
  /** Why it was killed by us; wins over how it then ended. */
  #verdict: unknown = null;
  #consuming: Promise<void> = Promise.resolve();

  constructor(program: string, child: Child, options: RunOptions, limit: CallLimit) {
    this.#program = program;
    this.#child = child;
    this.#options = options;
    this.#limit = limit;
  }

  async ended(): Promise<RunResult> {
    const onAbort = () => this.#kill(this.#limit.signal.reason);
    this.#limit.signal.addEventListener('abort', onAbort, { once: true });
    try {
      const { code, signal } = await this.#closed();
      await this.#consuming;
      return this.#judge(code, signal);
    } finally {
      this.#limit.signal.removeEventListener('abort', onAbort);
    }
  }

  #closed(): Promise<{ code: number | null; signal: string | null }> {
    const { promise, resolve, reject } = Promise.withResolvers<{
      code: number | null;
      signal: string | null;
    }>();
    this.#child.on('error', (error: NodeJS.ErrnoException) => reject(cannotStart(this.#program, error)));
    this.#child.on('close', (code, signal) => resolve({ code, signal }));
    // Without a pid it never began, and where descriptors ran out it has no streams either.
    if (this.#child.pid !== undefined) this.#converse();
    return promise;
  }

  #converse(): void {
    const { consume } = this.#options;
    if (consume === undefined) this.#listen();
    else this.#consuming = this.#pump(consume);
    this.#child.stderr.on('data', (chunk: Buffer) => this.#collect(this.#stderr, chunk));
    // EPIPE: a child that does not read its input says why by its exit code.
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stdin?.end(this.#options.input);
  }

  #listen(): void {
    this.#child.stdout.on('data', (chunk: Buffer) => this.#collect(this.#stdout, chunk));
    this.#child.stdout.on('data', (chunk: Buffer) => this.#options.onStdout?.(chunk.toString('utf8')));
  }

  /** Ends when the output does, or with the program when the consumer has had enough; never rejects. */
  async #pump(consume: (chunk: Buffer) => Promise<void>): Promise<void> {
    try {
      for await (const chunk of this.#child.stdout) await consume(chunk as Buffer);
    } catch (error) {
      this.#kill(error);
    }
  }

  #collect(chunks: Buffer[], chunk: Buffer): void {
    this.#bytes += chunk.length;
    const limit = this.#options.outputLimitBytes ?? OUTPUT_BYTES_LIMIT;
    if (this.#bytes <= limit) chunks.push(chunk);
    else this.#kill(tooMuchOutput(this.#program, limit));
  }

  /** Its pipes are closed too: a descendant that left the group must not keep the caller waiting. */
  #kill(verdict: unknown): void {
    this.#verdict ??= verdict;
    if (this.#child.pid === undefined) return;
    killGroup(this.#child.pid);
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
  }

  #judge(code: number | null, signal: string | null): RunResult {
    if (this.#verdict !== null) throw this.#verdict;
    const stderr = Buffer.concat(this.#stderr).toString('utf8').trim();
    if (code === null) throw new ProcessError(this.#program, null, stderr, `was ended by ${signal}`);
    if (!(this.#options.okCodes ?? [0]).includes(code)) {
      const { limits, sandbox } = this.#options;
      const wrapped = limits !== undefined || sandbox !== undefined;
      if (wrapped && code === NOT_FOUND_CODE) throw notInstalled(this.#program);
      throw new ProcessError(this.#program, code, stderr, `ended with exit code ${code}`);
    }
    return { exitCode: code, stdout: Buffer.concat(this.#stdout).toString('utf8'), stderr };
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // ESRCH: all of the group have ended by themselves.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function cannotStart(program: string, error: NodeJS.ErrnoException): AgentError {
  if (error.code === 'ENOENT') return notInstalled(program, error);
  if (error.code === 'ERR_INVALID_ARG_VALUE' || error.code === 'E2BIG') {
    return new AgentError('INVALID_ARGUMENT', `No arguments that ${program} can be given`, { cause: error });
  }
  return new AgentError('UNAVAILABLE', `Cannot start ${program}`, { cause: error });
}

function tooMuchOutput(program: string, outputLimitBytes: number): AgentError {
  const message = `${program}: more than ${outputLimitBytes} bytes of output`;
  return new AgentError('LIMIT_REACHED', message, { details: { outputLimitBytes } });
}

function notInstalled(program: string, cause?: unknown): AgentError {
  return new AgentError('UNSUPPORTED', `${program} is not installed on this host`, {
    hint: `Install the package that has ${program}.`,
    ...(cause === undefined ? {} : { cause }),
  });
}

function excerpt(text: string): string {
  return text.length > EXCERPT_LIMIT ? `${text.slice(0, EXCERPT_LIMIT)}…` : text;
}
