/**
 * An image source that is an http(s) server.
 *
 * The server is as untrusted as its bytes: redirects are followed one by one, only to http(s) and never from
 * https to http; silence has a deadline; the announced length has to be the true one. Messages name a URL
 * without its query, which may be a signature.
 */
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { CHUNK_BYTES, checkSourceSize, type ImageSource, type SourceLimits } from './source.ts';

/** Redirects followed; mirrors need one or two. */
const REDIRECTS_LIMIT = 5;
const REDIRECT_STATUSES: readonly number[] = [301, 302, 303, 307, 308];

/** What a status asks of the caller; other 4xx are INVALID_ARGUMENT, all others UNAVAILABLE. */
const STATUS_CODES: Readonly<Record<number, ErrorCode>> = {
  401: 'PERMISSION_DENIED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  408: 'UNAVAILABLE',
  410: 'NOT_FOUND',
  425: 'UNAVAILABLE',
  429: 'UNAVAILABLE',
};

export async function openHttpSource(
  source: string,
  limits: SourceLimits,
  clock: Clock,
  limit: CallLimit,
): Promise<ImageSource> {
  const transfer = new Transfer(limits.idleMs, clock, limit);
  try {
    const { url, response } = await followRedirects(parseUrl(source), transfer);
    return await accept(url, response, limits, transfer);
  } catch (error) {
    transfer.end();
    throw error;
  }
}

/** Bounds one transfer: aborted by the call's limit, or after too long a silence. */
class Transfer {
  readonly #controller = new AbortController();
  readonly #idleMs: number;
  readonly #clock: Clock;
  readonly #limit: CallLimit;

  constructor(idleMs: number, clock: Clock, limit: CallLimit) {
    this.#idleMs = idleMs;
    this.#clock = clock;
    this.#limit = limit;
    limit.signal.addEventListener('abort', this.#onLimit, { once: true });
    if (limit.signal.aborted) this.#onLimit();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Waits for the next sign of life from `url`. */
  async next<T>(url: URL, what: string, promise: Promise<T>): Promise<T> {
    const cancel = this.#clock.after(this.#idleMs, () => this.#onSilence(url));
    try {
      return await promise;
    } catch (error) {
      this.signal.throwIfAborted();
      throw new AgentError('UNAVAILABLE', `${what} ${shown(url)}`, { cause: reasonOf(error) });
    } finally {
      cancel();
    }
  }

  /** Closes the connection; harmless when called again. */
  end(): void {
    this.#limit.signal.removeEventListener('abort', this.#onLimit);
    this.#controller.abort();
  }

  readonly #onLimit = (): void => this.#controller.abort(this.#limit.signal.reason);

  #onSilence(url: URL): void {
    const message = `${shown(url)} was silent for ${this.#idleMs} ms`;
    this.#controller.abort(new AgentError('DEADLINE_EXCEEDED', message));
  }
}

class HttpSource implements ImageSource {
  readonly sizeBytes: number | null;
  readonly #url: URL;
  readonly #body: ReadableStream<Uint8Array>;
  readonly #limits: SourceLimits;
  readonly #transfer: Transfer;

  constructor(
    url: URL,
    body: ReadableStream<Uint8Array>,
    sizeBytes: number | null,
    limits: SourceLimits,
    transfer: Transfer,
  ) {
    this.sizeBytes = sizeBytes;
    this.#url = url;
    this.#body = body;
    this.#limits = limits;
    this.#transfer = transfer;
  }

  get neededBytes(): number {
    return this.sizeBytes ?? 0;
  }

  /** Small pieces off the wire are gathered into large ones. */
  async *chunks(): AsyncGenerator<Buffer> {
    const gathered = Buffer.allocUnsafe(CHUNK_BYTES);
    let filled = 0;
    let total = 0;
    for await (const piece of this.#pieces()) {
      total += piece.length;
      checkSourceSize(shown(this.#url), total, this.#limits);
      for (let at = 0; at < piece.length; ) {
        const taken = Math.min(piece.length - at, CHUNK_BYTES - filled);
        gathered.set(piece.subarray(at, at + taken), filled);
        at += taken;
        filled += taken;
        if (filled < CHUNK_BYTES) continue;
        yield gathered;
        filled = 0;
      }
    }
    if (filled > 0) yield gathered.subarray(0, filled);
    this.#checkLength(total);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#transfer.end();
  }

  async *#pieces(): AsyncGenerator<Uint8Array> {
    const reader = this.#body.getReader();
    for (;;) {
      const { done, value } = await this.#transfer.next(this.#url, 'Transfer broke off from', reader.read());
      if (done) return;
      yield value;
    }
  }

  #checkLength(total: number): void {
    checkSourceSize(shown(this.#url), total, this.#limits);
    if (this.sizeBytes === null || this.sizeBytes === total) return;
    throw new AgentError(
      'UNAVAILABLE',
      `Transfer broke off from ${shown(this.#url)}: ${total} of ${this.sizeBytes} bytes came`,
    );
  }
}

async function followRedirects(first: URL, transfer: Transfer): Promise<{ url: URL; response: Response }> {
  let url = first;
  for (let redirects = 0; redirects <= REDIRECTS_LIMIT; redirects++) {
    const response = await transfer.next(url, 'Cannot fetch', request(url, transfer.signal));
    if (!REDIRECT_STATUSES.includes(response.status)) return { url, response };
    await response.body?.cancel();
    url = redirectTarget(url, response.headers.get('location'));
  }
  throw new AgentError(
    'INVALID_ARGUMENT',
    `${shown(first)} redirects more than the ${REDIRECTS_LIMIT} times allowed`,
  );
}

/** Unencoded, since the digest is of the image's own bytes and a packed body could unpack without end. */
function request(url: URL, signal: AbortSignal): Promise<Response> {
  return fetch(url.href, { redirect: 'manual', signal, headers: { 'accept-encoding': 'identity' } });
}

function redirectTarget(from: URL, location: string | null): URL {
  const to = location === null ? null : URL.parse(location, from.href);
  if (to === null) throw new AgentError('INVALID_ARGUMENT', `${shown(from)} redirects to no URL`);
  if (to.protocol !== from.protocol && to.protocol !== 'https:') {
    throw new AgentError(
      'IMAGE_REFUSED',
      `Image from ${shown(from)} refused: it redirects from ${from.protocol} to ${to.protocol}`,
    );
  }
  return checkUrl(to);
}

async function accept(
  url: URL,
  response: Response,
  limits: SourceLimits,
  transfer: Transfer,
): Promise<ImageSource> {
  if (response.status !== 200) {
    const code =
      STATUS_CODES[response.status] ?? (response.status < 500 ? 'INVALID_ARGUMENT' : 'UNAVAILABLE');
    throw new AgentError(code, `${shown(url)} answered with status ${response.status}`);
  }
  const encoding = response.headers.get('content-encoding') ?? 'identity';
  if (encoding !== 'identity' || response.body === null) {
    throw new AgentError(
      'IMAGE_REFUSED',
      `Image from ${shown(url)} refused: it is sent encoded, or not at all`,
    );
  }
  const sizeBytes = announcedLength(response);
  if (sizeBytes !== null) checkSourceSize(shown(url), sizeBytes, limits);
  return new HttpSource(url, response.body, sizeBytes, limits, transfer);
}

function announcedLength(response: Response): number | null {
  const text = response.headers.get('content-length');
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

function parseUrl(source: string): URL {
  const url = URL.parse(source);
  if (url === null) throw new AgentError('INVALID_ARGUMENT', 'The image source is no valid URL');
  return checkUrl(url);
}

function checkUrl(url: URL): URL {
  if (url.username === '' && url.password === '') return url;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `A user name or password in a URL is not supported: ${shown(url)}`,
  );
}

function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

/** fetch says "fetch failed" and keeps the true reason in its cause. */
function reasonOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}
