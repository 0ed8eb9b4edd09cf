/**
 * HTTP to an OpenStack Placement: token, microversion, deadline, and errors by their code.
 *
 * The microversion is what the service offers, between MICROVERSION_MIN and 1.39. The token is read from its file at the
 * start, and again when the service says 401 or 403: whoever renews it writes it there.
 *
 * @see https://docs.openstack.org/api-ref/placement/
 */
import { readFileSync } from 'node:fs';
import { AgentError } from '../../../model/errors.ts';
import { parseJson } from '../../../model/json.ts';
import type { TSchema } from '../../../model/schema.ts';
import { findFault } from '../../../model/validate.ts';
import { ErrorAnswer, Root } from './schemas.ts';

/** The newest that was tried; later ones change nothing that is used here. */
const MINOR_MAX = 39;
/** `in_tree` of candidates came with 1.31, consumer generations with 1.28. */
const MINOR_MIN = 31;
/** With it, an allocation says of what type its consumer is. */
export const MINOR_CONSUMER_TYPE = 38;
/** Milliseconds for one answer: hundreds of times what a service that is well takes. */
const DEADLINE_MS = 10_000;
/** Requests under way at a time; a service takes no more in parallel, and its queue for connections is short. */
const REQUESTS_AT_ONCE = 4;
/** Requests that wait for their turn; more are refused, for the service is overrun. */
const WAITING_LIMIT = 2_000;
/** Bytes of one answer: candidates of a thousand nodes take a hundredth of it. */
const ANSWER_BYTES_LIMIT = 64 * 1024 * 1024;

export interface Answer {
  status: number;
  /** Null where there was no body. */
  body: unknown;
  /** Placement's own code of an error, such as `placement.concurrent_update`; null for none. */
  code: string | null;
  /** What Placement says of an error. */
  detail: string;
}

export interface PlacementClientOptions {
  /** Base URL, with any path that the service is under. */
  url: string;
  /** File with the token, readable by the scheduler alone. */
  tokenFile: string;
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export class PlacementClient {
  readonly #base: string;
  readonly #tokenFile: string;
  readonly #waiting: (() => void)[] = [];
  #token: string | null = null;
  #minor: number | null = null;
  #underWay = 0;

  constructor({ url, tokenFile }: PlacementClientOptions) {
    this.#base = url.replace(/\/+$/, '');
    this.#tokenFile = tokenFile;
  }

  /**
   * The minor microversion that is spoken.
   *
   * @throws {AgentError} UNSUPPORTED: the service offers none that is known here. UNAVAILABLE
   */
  async minor(): Promise<number> {
    this.#minor ??= await this.#negotiate();
    return this.#minor;
  }

  /**
   * One request; refusals of the service are answers, too.
   *
   * @param path Begins with `/`; what comes from outside in it is encoded by the caller.
   * @throws {AgentError} UNAVAILABLE: no answer, or none that could be read; a PUT may have been done. LIMIT_REACHED.
   *   PERMISSION_DENIED: the token is not taken.
   */
  async request(method: Method, path: string, body?: unknown): Promise<Answer> {
    const minor = await this.minor();
    return this.#withToken((token) => this.#send(method, path, { body, token, minor }));
  }

  /** The body of a GET, checked. @throws {AgentError} as `request`; UNAVAILABLE where the service refuses. */
  async get<T>(path: string, schema: TSchema): Promise<T> {
    const answer = await this.request('GET', path);
    if (answer.status !== 200) throw unexpected('GET', path, answer);
    return fitting<T>(answer.body, schema, path);
  }

  async #negotiate(): Promise<number> {
    const { status, body, detail } = await this.#withToken((token) =>
      this.#send('GET', '/', { token, minor: null }),
    );
    if (status !== 200) throw unexpected('GET', '/', { status, detail });
    const { versions } = fitting<{ versions: { min_version: string; max_version: string }[] }>(
      body,
      Root,
      '/',
    );
    for (const { min_version: min, max_version: max } of versions) {
      const [from, to] = [minorOf(min), minorOf(max)];
      if (from !== null && to !== null && to >= MINOR_MIN && from <= MINOR_MAX)
        return Math.min(to, MINOR_MAX);
    }
    throw new AgentError(
      'UNSUPPORTED',
      `The Placement at ${this.#base} offers no microversion that is known`,
      {
        hint: `One between 1.${MINOR_MIN} and 1.${MINOR_MAX} is needed.`,
      },
    );
  }

  async #withToken(send: (token: string) => Promise<Answer>): Promise<Answer> {
    const before = this.#token ?? this.#readToken();
    const answer = await send(before);
    if (!isDenied(answer)) return answer;
    const now = this.#readToken();
    const again = now === before ? answer : await send(now);
    if (!isDenied(again)) return again;
    throw new AgentError('PERMISSION_DENIED', `The Placement at ${this.#base} does not take the token`, {
      hint: `Write a good one to ${this.#tokenFile}.`,
    });
  }

  #readToken(): string {
    try {
      this.#token = readFileSync(this.#tokenFile, 'utf8').trim();
      return this.#token;
    } catch (cause) {
      throw new AgentError('UNAVAILABLE', "Cannot read the file of Placement's token", { cause });
    }
  }

  async #send(
    method: Method,
    path: string,
    { body, token, minor }: { body?: unknown; token: string; minor: number | null },
  ): Promise<Answer> {
    await this.#turn();
    try {
      const response = await fetch(`${this.#base}${path}`, {
        method,
        headers: {
          'x-auth-token': token,
          accept: 'application/json',
          ...(minor === null ? {} : { 'openstack-api-version': `placement 1.${minor}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        redirect: 'error',
        signal: AbortSignal.timeout(DEADLINE_MS),
      });
      return answerOf(response.status, await textOf(response));
    } catch (cause) {
      throw new AgentError('UNAVAILABLE', `The Placement at ${this.#base} does not answer`, { cause });
    } finally {
      this.#leave();
    }
  }

  async #turn(): Promise<void> {
    if (this.#underWay < REQUESTS_AT_ONCE) {
      this.#underWay++;
      return;
    }
    if (this.#waiting.length >= WAITING_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `${WAITING_LIMIT} requests wait for Placement already`);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    await promise;
  }

  /** Hands its place to the one who has waited longest: nobody who comes in between may take it as well. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#underWay--;
    else next();
  }
}

/** What the service should not have said. */
export function unexpected(
  method: string,
  path: string,
  { status, detail }: Pick<Answer, 'status' | 'detail'>,
): AgentError {
  return new AgentError('UNAVAILABLE', `Placement answered ${method} ${path} with ${status}: ${detail}`);
}

/** @throws {AgentError} UNAVAILABLE: the body is not what the API says. */
export function fitting<T>(body: unknown, schema: TSchema, path: string): T {
  const fault = findFault(schema, body);
  if (fault === null) return body as T;
  throw new AgentError(
    'UNAVAILABLE',
    `Placement's answer to ${path} does not fit: ${fault.path} ${fault.message}`,
  );
}

function isDenied({ status }: Answer): boolean {
  return status === 401 || status === 403;
}

function minorOf(version: string): number | null {
  const match = /^1\.(\d{1,4})$/.exec(version);
  return match === null ? null : Number(match[1]);
}

async function textOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_LIMIT) throw new Error(`more than ${ANSWER_BYTES_LIMIT} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function answerOf(status: number, text: string): Answer {
  if (status < 400) return { status, body: text === '' ? null : parseJson(text), code: null, detail: '' };
  const error = firstErrorOf(text);
  return { status, body: null, code: error?.code ?? null, detail: error?.detail ?? 'no reason' };
}

/** A proxy in front of the service may answer with a page. */
function firstErrorOf(text: string): { code: string; detail: string } | null {
  let body: unknown;
  try {
    body = parseJson(text);
  } catch {
    return null;
  }
  if (findFault(ErrorAnswer, body) !== null) return null;
  const [error] = (body as { errors: { code?: string; detail: string }[] }).errors;
  if (error === undefined) return null;
  const { code = 'placement.undefined_code', detail } = error;
  return { code, detail: detail.split(/\s+/).join(' ').trim() };
}
