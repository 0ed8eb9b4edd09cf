/**
 * The agent's local socket, from the caller's side: HTTP over a unix socket, one connection for each request.
 *
 * An answer comes whole or not at all. A connection that breaks before its answer is used once more with the
 * same parameters: commands carry an idempotency key, so the agent answers a repeat with the first operation.
 * Everything has a bound: the time to answer, the bytes of an answer, the bytes of an event's line.
 */
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http';
import type { Readable } from 'node:stream';
import { AgentError, ERROR_CODES, type ErrorBody } from '../model/errors.ts';
import type { BerthEvent } from '../model/event.ts';
import type { MethodName, Params, Result } from '../model/methods.ts';
import { CliError, EXIT, unreachableError } from './failure.ts';
import type { Clock } from './io.ts';
import { linesOf } from './lines.ts';

export const DEFAULT_SOCKET_PATH = '/run/berth/berth.sock';

export interface ClientLimits {
  /** Time the agent has for an answer, in milliseconds; its slowest read, the doctor, has its own shorter deadlines. */
  answerTimeoutMs: number;
  /** Largest answer, in bytes: 1,000 instances with the largest user-data each. */
  answerBytes: number;
  /** How long a lost agent is waited for before the one repeat of a request, in milliseconds: a restart. */
  repeatPatienceMs: number;
  /** How long a follower or waiter looks for an agent that went away, in milliseconds: an upgrade. */
  followPatienceMs: number;
}

export const CLIENT_LIMITS: ClientLimits = {
  answerTimeoutMs: 60_000,
  answerBytes: 128 * 1024 * 1024,
  repeatPatienceMs: 10_000,
  followPatienceMs: 30_000,
};

/** First and longest pause between two looks for a lost agent, in milliseconds. */
const LOOK_FIRST_MS = 50;
const LOOK_LONGEST_MS = 1000;

export interface ClientOptions {
  socketPath: string;
  clock: Clock;
  limits: ClientLimits;
}

/** The connection was there and broke before the answer was complete. */
export class BrokenError extends CliError {
  constructor(cause: unknown) {
    super(EXIT.unreachable, 'UNAVAILABLE', 'the connection to the agent broke before it answered', {
      cause,
      hint: 'Look with `berth status` and `journalctl -u berthd -e`, then try again.',
    });
  }
}

/** There is no connection: nothing was sent. */
class AbsentError extends CliError {}

/** The socket is there, and not for this user. */
class ForbiddenError extends AbsentError {}

/** The read-only socket beside a full one, as the agent makes it. */
export function readOnlyPathOf(socketPath: string): string {
  return socketPath.replace(/(\.sock)?$/, '-ro$1');
}

export class Client {
  /** The full socket; once this user has been refused there, the read-only one. */
  #socketPath: string;
  readonly #fullPath: string;
  readonly #clock: Clock;
  readonly #limits: ClientLimits;

  constructor({ socketPath, clock, limits }: ClientOptions) {
    this.#socketPath = socketPath;
    this.#fullPath = socketPath;
    this.#clock = clock;
    this.#limits = limits;
  }

  get socketPath(): string {
    return this.#socketPath;
  }

  /**
   * Asks the agent, and once more where the connection breaks before the answer.
   *
   * @throws {AgentError} The agent's refusal.
   * @throws {CliError} UNAVAILABLE, exit code 3: not reachable, or no answer in time.
   */
  async call<M extends MethodName>(method: M, params: Params<M>): Promise<Result<M>> {
    const send = () => this.send(method, params);
    try {
      return (await send()) as Result<M>;
    } catch (error) {
      if (!(error instanceof BrokenError)) throw error;
    }
    const isAbsent = (error: unknown) => error instanceof AbsentError;
    const repeat = this.#patiently(send, this.#limits.repeatPatienceMs, isAbsent).catch((error: unknown) => {
      throw isAbsent(error) ? new BrokenError(error) : error;
    });
    return (await repeat) as Result<M>;
  }

  /** Asks for something that a waiter looks at again and again: an agent that restarts meanwhile is no failure. */
  async poll<M extends MethodName>(method: M, params: Params<M>, signal?: AbortSignal): Promise<Result<M>> {
    const send = () => this.send(method, params, signal);
    return (await this.#patiently(send, this.#limits.followPatienceMs, isLost, signal)) as Result<M>;
  }

  /** Asks exactly once, anything; an abort of the signal gives up the request, not what it began. */
  async send(method: string, params: unknown, signal?: AbortSignal): Promise<unknown> {
    const body = JSON.stringify(params);
    const response = await this.#request({
      method: 'POST',
      path: `/v1/${encodeURIComponent(method)}`,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      body,
      ...(signal === undefined ? {} : { signal }),
    });
    return this.#answerOf(response);
  }

  /** Bytes of an upload that the agent has; waits for an agent that restarts. */
  async uploaded(image: string, signal: AbortSignal): Promise<number> {
    const ask = async () =>
      this.#answerOf(await this.#request({ method: 'GET', path: `/v1/uploads/${image}`, signal }));
    const answer = await this.#patiently(ask, this.#limits.followPatienceMs, isLost, signal);
    return (answer as { at: number }).at;
  }

  /** Sends some bytes of an upload, which is not repeated: whoever does asks first how far it has come. */
  async sendPiece(
    piece: { image: string; at: number; length: number; bytes: Readable },
    signal: AbortSignal,
  ): Promise<number> {
    const response = await this.#request({
      method: 'PUT',
      path: `/v1/uploads/${piece.image}?at=${piece.at}`,
      headers: { 'content-type': 'application/octet-stream', 'content-length': piece.length },
      body: piece.bytes,
      signal,
    });
    return ((await this.#answerOf(response)) as { at: number }).at;
  }

  /**
   * Events after a sequence number, as they happen, until the signal is aborted. A stream that ends is opened
   * again after the last event that came, so none is missed and none comes twice.
   *
   * @throws {CliError} UNAVAILABLE: the agent stays away longer than the limit.
   */
  async *events(after: number, signal: AbortSignal): AsyncGenerator<BerthEvent> {
    let last = after;
    let patienceMs = 0;
    while (!signal.aborted) {
      const open = () => this.#openEvents(last, signal);
      const response = await this.#patiently(open, patienceMs, isLost, signal).catch((error: unknown) => {
        if (signal.aborted) return null;
        throw error;
      });
      if (response === null) return;
      let came = false;
      for await (const line of linesOf(response, signal)) {
        const event = parseEvent(line);
        if (event.seq <= last) continue;
        last = event.seq;
        came = true;
        yield event;
      }
      if (!came) await this.#clock.sleep(LOOK_LONGEST_MS, signal);
      patienceMs = this.#limits.followPatienceMs;
    }
  }

  async #openEvents(after: number, signal: AbortSignal): Promise<IncomingMessage> {
    const response = await this.#request({ method: 'GET', path: `/v1/events?after=${after}`, signal });
    if (response.statusCode !== 200) await this.#answerOf(response);
    return response;
  }

  /** Tries until it works, fails in a way that is not to be repeated, or the time is over. */
  async #patiently<T>(
    attempt: () => Promise<T>,
    patienceMs: number,
    repeatable: (error: unknown) => boolean,
    signal?: AbortSignal,
  ): Promise<T> {
    const deadlineMs = this.#clock.nowMs() + patienceMs;
    for (let pauseMs = LOOK_FIRST_MS; ; pauseMs = Math.min(pauseMs * 2, LOOK_LONGEST_MS)) {
      try {
        return await attempt();
      } catch (error) {
        if (signal?.aborted || !repeatable(error) || this.#clock.nowMs() >= deadlineMs) throw error;
      }
      await this.#clock.sleep(pauseMs, signal);
    }
  }

  /** On the full socket; on the read-only one where this user may use that alone. */
  async #request(asked: Asked): Promise<IncomingMessage> {
    try {
      return await this.#requestAt(this.#socketPath, asked);
    } catch (error) {
      if (!(error instanceof ForbiddenError) || this.#socketPath !== this.#fullPath) throw error;
      return await this.#requestReadOnly(asked, error);
    }
  }

  /** Nothing was sent before, so a body that streams is whole. @param refused Why the full socket can't be used. */
  async #requestReadOnly(asked: Asked, refused: ForbiddenError): Promise<IncomingMessage> {
    const path = readOnlyPathOf(this.#fullPath);
    const response = await this.#requestAt(path, asked).catch((error: unknown) => {
      throw error instanceof AbsentError ? refused : error;
    });
    this.#socketPath = path;
    return response;
  }

  async #answerOf(response: IncomingMessage): Promise<unknown> {
    try {
      return await readAnswer(response, this.#limits.answerBytes);
    } catch (error) {
      const isReadOnly = this.#socketPath !== this.#fullPath;
      if (!isReadOnly || !(error instanceof AgentError) || error.code !== 'PERMISSION_DENIED') throw error;
      throw readOnlyError(error, this.#fullPath);
    }
  }

  #requestAt(socketPath: string, asked: Asked): Promise<IncomingMessage> {
    const { body, ...rest } = asked;
    const timeoutMs = this.#limits.answerTimeoutMs;
    return new Promise((resolve, reject) => {
      const request = openRequest({ ...rest, socketPath, host: 'berth', agent: false });
      let slow: ClientRequest | IncomingMessage = request;
      const timer = setTimeout(() => slow.destroy(silent(socketPath, timeoutMs)), timeoutMs);
      request.once('response', (response) => {
        slow = response;
        if (asked.method === 'GET') clearTimeout(timer); // a stream has no end to wait for
        resolve(response);
      });
      request.once('error', (error) => reject(explain(error, socketPath)));
      request.once('close', () => clearTimeout(timer));
      if (typeof body !== 'object') return void request.end(body);
      request.once('socket', (socket) => socket.once('connect', () => body.pipe(request)));
      body.once('error', (error) => request.destroy(error));
    });
  }
}

interface Asked {
  method: 'GET' | 'POST' | 'PUT';
  path: string;
  headers?: Record<string, string | number>;
  body?: string | Readable;
  signal?: AbortSignal;
}

/**
 * `import 'node:http'` reads every name that the module exports, which loads a whole second HTTP client
 * (undici) and costs more than 40 ms of a command's start; taken this way, only what is used is loaded.
 */
function openRequest(options: RequestOptions): ClientRequest {
  return process.getBuiltinModule('node:http').request(options);
}

/** The agent has gone away for a while, or for good. */
export function isLost(error: unknown): boolean {
  return error instanceof AbsentError || error instanceof BrokenError;
}

async function readAnswer(response: IncomingMessage, limitBytes: number): Promise<unknown> {
  const text = await readBody(response, limitBytes);
  const value = parseAnswer(text);
  if (response.statusCode === 200) return value;
  throw agentErrorOf(value, response.statusCode ?? 0);
}

async function readBody(response: IncomingMessage, limitBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limitBytes) throw misunderstood(`its answer is larger than ${limitBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof CliError ? error : new BrokenError(error);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseAnswer(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch (error) {
    throw misunderstood('its answer is not JSON', error);
  }
  throw misunderstood('its answer is not a JSON object');
}

function parseEvent(line: string): BerthEvent {
  const value = parseAnswer(line) as Partial<BerthEvent>;
  if (Number.isSafeInteger(value.seq)) return value as BerthEvent;
  throw misunderstood('an event has no number');
}

function agentErrorOf(value: unknown, status: number): Error {
  const body = (value as { error?: Partial<ErrorBody> }).error;
  if (typeof body?.message !== 'string') {
    return misunderstood(`it answered status ${status} without an error of Berth`);
  }
  const known = typeof body.code === 'string' && Object.hasOwn(ERROR_CODES, body.code);
  const error: ErrorBody = { code: known && body.code ? body.code : 'INTERNAL', message: body.message };
  if (typeof body.hint === 'string') error.hint = body.hint;
  if (typeof body.details === 'object' && body.details !== null) error.details = body.details;
  return AgentError.fromBody(error);
}

function misunderstood(reason: string, cause?: unknown): CliError {
  return new CliError(EXIT.failed, 'INTERNAL', `the agent is not understood: ${reason}`, {
    cause,
    hint: 'Compare `berth --version` with `berthd --version`: both come from one package.',
  });
}

function silent(socketPath: string, timeoutMs: number): CliError {
  return unreachableError(`Cannot reach the agent at ${socketPath}: no answer within ${timeoutMs / 1000} s`, {
    hint: 'See `systemctl status berthd` and `journalctl -u berthd -e`; `systemctl restart berthd` touches no guest.',
  });
}

/** What a failed request means: never connected, broken on the way, or not the agent's doing. */
function explain(error: Error & { code?: string; syscall?: string }, socketPath: string): Error {
  if (error instanceof CliError || error.name === 'AbortError') return error;
  if (error.code?.startsWith('HPE_')) return misunderstood('it does not speak HTTP', error);
  if (error.syscall !== 'connect') return new BrokenError(error);
  const { reason, hint } = absence(error.code ?? error.message, socketPath);
  const message = `Cannot reach the agent at ${socketPath}: ${reason}`;
  const kind = error.code === 'EACCES' || error.code === 'EPERM' ? ForbiddenError : AbsentError;
  return new kind(EXIT.unreachable, 'UNAVAILABLE', message, { hint, cause: error });
}

function readOnlyError(refusal: AgentError, fullPath: string): CliError {
  const message = `this user may only look: ${refusal.message}`;
  return new CliError(EXIT.failed, 'PERMISSION_DENIED', message, {
    cause: refusal,
    hint: `Use sudo, or join the group that \`ls -l ${fullPath}\` shows and log in again.`,
  });
}

function absence(code: string, socketPath: string): { reason: string; hint: string } {
  switch (code) {
    case 'ENOENT':
      return {
        reason: 'there is no such socket',
        hint: 'Start the agent with `systemctl start berthd`, or name its socket with --socket or BERTH_SOCKET.',
      };
    case 'ECONNREFUSED':
      return {
        reason: 'no agent listens on it',
        hint: 'Start the agent with `systemctl start berthd`; `journalctl -u berthd -e` says why it ended.',
      };
    case 'EACCES':
    case 'EPERM':
      return {
        reason: 'permission denied',
        hint: `Use sudo, or join the group that \`ls -l ${socketPath}\` shows and log in again.`,
      };
    default:
      return { reason: code, hint: 'Name the socket of the agent with --socket or BERTH_SOCKET.' };
  }
}
