/**
 * The local socket: HTTP on a unix socket, for `berth`, curl and scripts on this host.
 *
 *   POST /v1/<method>          params as JSON → the method's result
 *   GET  /v1/events?after=N    events as JSON lines, from after N on, until the caller goes
 *   GET  /v1/methods           the names of the methods
 *
 * Who may connect is decided by the socket's owner, group and mode; whoever may is an admin. An error is
 * `{ "error": { code, message, hint?, details? } }` with the HTTP status of its code. A body over 1 MiB,
 * one that is not JSON, and a path that is not here get the same shape of error.
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { once } from 'node:events';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify';
import { AgentError } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import { httpStatusOf } from '../../model/http-status.ts';
import { METHOD_NAMES } from '../../model/methods.ts';
import type { EventStore } from '../store/events.ts';
import type { Dispatcher } from './dispatcher.ts';

/** Largest request body, bytes: an instance with 64 KiB of user-data fits many times. */
const BODY_BYTES_LIMIT = 1024 * 1024;
/** Connections at once; a host has a handful of operators and scripts. */
const CONNECTIONS_LIMIT = 256;
/** Followers of events at once; each holds a connection for long. */
const FOLLOWERS_LIMIT = 32;
/** Events read from the store at a time for one follower. */
const EVENT_PAGE = 200;
/** Pause after which an idle connection is closed, ms. */
const IDLE_TIMEOUT_MS = 75_000;

export interface LocalSocketOptions {
  path: string;
  /** Group that may connect; empty for the owner alone. */
  group: string;
  dispatcher: Dispatcher;
  events: EventStore;
}

export class LocalSocket {
  readonly #options: LocalSocketOptions;
  readonly #http: FastifyInstance;
  readonly #stop = new AbortController();
  #followers = 0;

  constructor(options: LocalSocketOptions) {
    this.#options = options;
    this.#http = Fastify({
      bodyLimit: BODY_BYTES_LIMIT,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      forceCloseConnections: true,
      exposeHeadRoutes: false,
    });
    this.#http.server.maxConnections = CONNECTIONS_LIMIT;
    this.#acceptEmptyBodies();
    this.#routes();
  }

  /** @throws {AgentError} HOST_CONFLICT: the path is taken by something that is no socket. */
  async listen(): Promise<void> {
    const { path, group } = this.#options;
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    removeStaleSocket(path);
    const mask = process.umask(0o177);
    try {
      await this.#http.listen({ path });
    } finally {
      process.umask(mask);
    }
    if (group === '') return;
    chownSync(path, 0, groupId(group));
    chmodSync(path, 0o660);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#http.close();
  }

  #acceptEmptyBodies(): void {
    this.#http.removeAllContentTypeParsers();
    this.#http.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
      if (body === '') return done(null, undefined);
      try {
        done(null, JSON.parse(body as string));
      } catch (cause) {
        done(new AgentError('INVALID_ARGUMENT', 'The body is not JSON', { cause }));
      }
    });
  }

  #routes(): void {
    this.#http.get('/v1/methods', async () => ({ methods: METHOD_NAMES }));
    this.#http.get('/v1/events', (request, reply) =>
      this.#follow((request.query as { after?: string }).after, reply),
    );
    this.#http.post('/v1/:method', async (request) => {
      const { method } = request.params as { method: string };
      return this.#options.dispatcher.call(method, request.body, {
        role: 'admin',
        signal: this.#stop.signal,
      });
    });
    this.#http.setNotFoundHandler((request, reply) =>
      sendError(
        reply,
        new AgentError('NOT_FOUND', `Nothing at ${request.method} ${request.url.slice(0, 200)}`, {
          hint: 'Methods are called by POST /v1/<method>; GET /v1/methods lists them.',
        }),
      ),
    );
    this.#http.setErrorHandler((error, _request, reply) => sendError(reply, fromHttp(error as FastifyError)));
  }

  async #follow(afterText: string | undefined, reply: FastifyReply): Promise<void> {
    const after = Number(afterText ?? this.#options.events.lastSeq());
    if (!Number.isSafeInteger(after) || after < 0) {
      return sendError(reply, new AgentError('INVALID_ARGUMENT', 'after must be a whole number, 0 or more'));
    }
    if (this.#followers >= FOLLOWERS_LIMIT) {
      return sendError(
        reply,
        new AgentError('LIMIT_REACHED', `${FOLLOWERS_LIMIT} callers follow the events already`),
      );
    }
    this.#followers++;
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
    reply.raw.flushHeaders();
    try {
      await pumpEvents(this.#options.events, after, reply.raw, this.#stop.signal);
    } finally {
      this.#followers--;
      reply.raw.end();
    }
  }
}

/** Writes events as lines at the reader's pace: what he has not read yet stays in the store. */
async function pumpEvents(
  events: EventStore,
  after: number,
  to: NodeJS.WritableStream & { closed: boolean },
  stop: AbortSignal,
): Promise<void> {
  const gone = AbortSignal.any([stop, closeSignal(to)]);
  for (let seq = after; !gone.aborted; ) {
    const page = events.after(seq, EVENT_PAGE);
    for (const event of page) {
      if (!to.write(`${JSON.stringify(event)}\n`)) await waitFor(to, 'drain', gone);
      seq = event.seq;
    }
    if (page.length === 0) await nextEvent(events, seq, gone);
  }
}

function closeSignal(stream: NodeJS.WritableStream): AbortSignal {
  const closed = new AbortController();
  stream.once('close', () => closed.abort());
  return closed.signal;
}

async function waitFor(emitter: NodeJS.EventEmitter, event: string, signal: AbortSignal): Promise<void> {
  await once(emitter, event, { signal }).catch(() => undefined);
}

function nextEvent(events: EventStore, after: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const unsubscribe = events.subscribe((event: BerthEvent) => event.seq > after && resolve());
  signal.addEventListener('abort', () => resolve(), { once: true });
  if (signal.aborted || events.lastSeq() > after) resolve();
  return promise.finally(unsubscribe);
}

function sendError(reply: FastifyReply, error: AgentError): void {
  void reply.code(httpStatusOf(error.code)).send({ error: error.toBody() });
}

/** Fastify's own refusals in our words. */
function fromHttp(error: FastifyError): AgentError {
  if (error instanceof AgentError) return error;
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new AgentError('INVALID_ARGUMENT', `The body is larger than ${BODY_BYTES_LIMIT} bytes`);
  }
  if ((error.statusCode ?? 500) < 500)
    return new AgentError('INVALID_ARGUMENT', 'Not a request that this socket takes', { cause: error });
  return AgentError.from(error);
}

/** The database's lock has shown that no other daemon serves here, so a socket that is left over can go. */
function removeStaleSocket(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new AgentError('HOST_CONFLICT', `${path} exists and is no socket`, {
      hint: 'Move it away, or set socket.path.',
    });
  unlinkSync(path);
}

function groupId(name: string): number {
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  const id = line?.split(':')[2];
  if (id !== undefined) return Number(id);
  throw new AgentError('INVALID_ARGUMENT', `There is no group ${name} for the local socket`, {
    hint: 'Add it (groupadd --system), or clear socket.group.',
  });
}
