/**
 * An image source that is an http(s) server.
 *
 * The server is as untrusted as its bytes: redirects are followed one by one, only to http(s), never from https to
 * http, and never to an address that is refused; silence has a deadline; the announced length has to be the true one.
 * A transfer goes on where an earlier one broke off when the server says that the object is the same. Messages name a
 * URL without its query, which may be a signature.
 *
 * @see RFC 9110, 13.1.5 (If-Range) and 14 (Range)
 */
import {
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { CHUNK_BYTES, checkSourceSize, type ImageSource, type Resume, type SourceLimits } from './source.ts';

/** Redirects followed; mirrors need one or two. */
const REDIRECTS_LIMIT = 5;
const REDIRECT_STATUSES: readonly number[] = [301, 302, 303, 307, 308];
/** A validator is kept in a file of ours; a longer one is not used. */
const VALIDATOR_LENGTH_LIMIT = 512;

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

/** @param resume What is there of an earlier transfer; null for the whole. */
export async function openHttpSource(
  source: string,
  resume: Resume | null,
  { limits, clock, limit }: { limits: SourceLimits; clock: Clock; limit: CallLimit },
): Promise<ImageSource> {
  const transfer = new Transfer(limits, clock, limit);
  try {
    const { url, response } = await followRedirects(parseUrl(source), resume, transfer);
    return accept(url, response, resume, transfer);
  } catch (error) {
    transfer.end();
    throw error;
  }
}

/** Bounds one transfer: aborted by the call's limit, or after too long a silence. */
class Transfer {
  readonly limits: SourceLimits;
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly #limit: CallLimit;

  constructor(limits: SourceLimits, clock: Clock, limit: CallLimit) {
    this.limits = limits;
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
    const cancel = this.#clock.after(this.limits.idleMs, () => this.#onSilence(url));
    try {
      return await promise;
    } catch (error) {
      this.signal.throwIfAborted();
      if (error instanceof AgentError) throw error;
      throw new AgentError('UNAVAILABLE', `${what} ${shown(url)}`, { cause: error });
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
    const message = `${shown(url)} was silent for ${this.limits.idleMs} ms`;
    this.#controller.abort(new AgentError('DEADLINE_EXCEEDED', message));
  }
}

class HttpSource implements ImageSource {
  readonly sizeBytes: number | null;
  readonly startsAt: number;
  readonly validator: string | null;
  readonly #url: URL;
  readonly #response: IncomingMessage;
  readonly #transfer: Transfer;

  constructor(
    url: URL,
    response: IncomingMessage,
    { sizeBytes, startsAt }: { sizeBytes: number | null; startsAt: number },
    transfer: Transfer,
  ) {
    this.sizeBytes = sizeBytes;
    this.startsAt = startsAt;
    this.validator = validatorOf(response);
    this.#url = url;
    this.#response = response;
    this.#transfer = transfer;
  }

  get neededBytes(): number {
    return (this.sizeBytes ?? 0) - this.startsAt;
  }

  /** Small pieces off the wire are gathered into large ones. */
  async *chunks(): AsyncGenerator<Buffer> {
    const gathered = Buffer.allocUnsafe(CHUNK_BYTES);
    let filled = 0;
    let total = this.startsAt;
    try {
      for await (const piece of this.#pieces()) {
        total += piece.length;
        checkSourceSize(shown(this.#url), total, this.#transfer.limits);
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
    } catch (error) {
      // What has come is kept: the next transfer goes on behind it.
      if (filled > 0 && AgentError.from(error).code !== 'IMAGE_REFUSED') yield gathered.subarray(0, filled);
      throw error;
    }
    if (filled > 0) yield gathered.subarray(0, filled);
    this.#checkLength(total);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#transfer.end();
  }

  async *#pieces(): AsyncGenerator<Buffer> {
    const pieces = this.#response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    for (;;) {
      const { done, value } = await this.#transfer.next(this.#url, 'Transfer broke off from', pieces.next());
      if (done) return;
      yield value;
    }
  }

  #checkLength(total: number): void {
    checkSourceSize(shown(this.#url), total, this.#transfer.limits);
    if (this.sizeBytes === null || this.sizeBytes === total) return;
    throw new AgentError(
      'UNAVAILABLE',
      `Transfer broke off from ${shown(this.#url)}: ${total} of ${this.sizeBytes} bytes came`,
    );
  }
}

async function followRedirects(
  first: URL,
  resume: Resume | null,
  transfer: Transfer,
): Promise<{ url: URL; response: IncomingMessage }> {
  let url = first;
  for (let redirects = 0; redirects <= REDIRECTS_LIMIT; redirects++) {
    const response = await transfer.next(url, 'Cannot fetch', ask(url, resume, transfer));
    if (!REDIRECT_STATUSES.includes(response.statusCode ?? 0)) return { url, response };
    response.destroy();
    url = redirectTarget(url, response.headers.location);
  }
  throw new AgentError(
    'INVALID_ARGUMENT',
    `${shown(first)} redirects more than the ${REDIRECTS_LIMIT} times allowed`,
  );
}

/** Unencoded, since the digest is of the image's own bytes and a packed body could unpack without end. */
async function ask(url: URL, resume: Resume | null, { limits, signal }: Transfer): Promise<IncomingMessage> {
  limits.addresses.checkHost(url.hostname);
  const same = resume === null || resume.validator === null ? {} : { 'if-range': resume.validator };
  const range = resume === null ? {} : { range: `bytes=${resume.at}-`, ...same };
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const options: RequestOptions = {
    signal,
    agent: false,
    lookup: limits.addresses.lookup,
    headers: { 'accept-encoding': 'identity', 'user-agent': 'berth', ...range },
  };
  const request: ClientRequest =
    url.protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options);
  request.on('response', resolve);
  // Also after the response has begun: what breaks off then is told by its body.
  request.on('error', reject);
  request.end();
  return promise;
}

function redirectTarget(from: URL, location: string | undefined): URL {
  const to = location === undefined ? null : URL.parse(location, from.href);
  if (to === null) throw new AgentError('INVALID_ARGUMENT', `${shown(from)} redirects to no URL`);
  if (to.protocol !== from.protocol && to.protocol !== 'https:') {
    throw new AgentError(
      'IMAGE_REFUSED',
      `Image from ${shown(from)} refused: it redirects from ${from.protocol} to ${to.protocol}`,
    );
  }
  return checkUrl(to);
}

function accept(url: URL, response: IncomingMessage, resume: Resume | null, transfer: Transfer): ImageSource {
  const status = response.statusCode ?? 0;
  const part = status === 206 && resume !== null;
  if (status !== 200 && !part) {
    const code = STATUS_CODES[status] ?? (status < 500 ? 'INVALID_ARGUMENT' : 'UNAVAILABLE');
    throw new AgentError(code, `${shown(url)} answered with status ${status}`);
  }
  if ((response.headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new AgentError('IMAGE_REFUSED', `Image from ${shown(url)} refused: it is sent encoded`);
  }
  if (part) checkRange(url, response, resume);
  const place = part
    ? { startsAt: resume.at, sizeBytes: resume.sizeBytes }
    : { startsAt: 0, sizeBytes: announcedLength(response) };
  if (place.sizeBytes !== null) checkSourceSize(shown(url), place.sizeBytes, transfer.limits);
  return new HttpSource(url, response, place, transfer);
}

/** A server that sends another part than was asked for is broken; the next try asks for the whole. */
function checkRange(url: URL, response: IncomingMessage, resume: Resume): void {
  const expected = `bytes ${resume.at}-${resume.sizeBytes - 1}/${resume.sizeBytes}`;
  if (response.headers['content-range'] === expected) return;
  throw new AgentError(
    'IMAGE_REFUSED',
    `Image from ${shown(url)} refused: it sends another part than asked for`,
  );
}

/** A strong ETag, or the time of the last change; a weak ETag stands for like objects, not the same bytes. */
function validatorOf({ headers }: IncomingMessage): string | null {
  if (headers['accept-ranges'] === 'none') return null;
  const { etag } = headers;
  const validator = etag?.startsWith('"') ? etag : (headers['last-modified'] ?? null);
  return validator !== null && validator.length <= VALIDATOR_LENGTH_LIMIT ? validator : null;
}

function announcedLength(response: IncomingMessage): number | null {
  const text = response.headers['content-length'];
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
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
