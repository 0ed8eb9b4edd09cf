/**
 * The local socket: HTTP on a unix socket, for `berth`, curl and scripts on this host.
 *
 *   POST /v1/<method>          params as JSON → the method's result
 *   GET  /v1/events?after=N    events as JSON lines, from after N on, until the caller goes
 *   GET  /v1/methods           the names of the methods
 *   GET  /v1/uploads/<image>          bytes of an upload that are there, { at }
 *   PUT  /v1/uploads/<image>?at=N     up to UPLOAD_BYTES_LIMIT more of them, as application/octet-stream → { at }
 *
 * Who may connect is decided by the socket's owner, group and mode. On the full socket whoever may is an admin; the
 * read-only one beside it observes, and takes no uploads. An error is
 * `{ "error": { code, message, hint?, details? } }` with the HTTP status of its code. A body over 1 MiB,
 * one that is not JSON or nested too deep, a path that is not here, and what is no HTTP get the same shape of
 * error.
 */
import { once } from 'node:events';
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify';
import type { Peers } from '../../drivers/contracts/peers.ts';
import { AgentError } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import { httpStatusOf } from '../../model/http-status.ts';
import { parseJson } from '../../model/json.ts';
import { METHOD_NAMES } from '../../model/methods.ts';
import type { Uploads } from '../images/uploads.ts';
import type { Log } from '../log.ts';
import type { EventStore } from '../store/events.ts';
import type { Dispatcher } from './dispatcher.ts';
import { LocalCallers } from './local-caller.ts';
import { limitPlaces } from './places.ts';
import { uploadRoutes } from './upload-routes.ts';

/** Largest request body, bytes: an instance with 64 KiB of user-data fits many times. */
const BODY_BYTES_LIMIT = 1024 * 1024;
/** Connections at once; a host has a handful of operators and scripts. Beyond it silent ones give way. */
const CONNECTIONS_LIMIT = 256;
/** Followers of events at once; each holds a connection for long. */
const FOLLOWERS_LIMIT = 32;
/** Events read from the store at a time for one follower. */
const EVENT_PAGE = 200;
/** Pause after which an idle connection is closed, ms. */
const IDLE_TIMEOUT_MS = 75_000;
/** A whole request on a local socket arrives in milliseconds, or its sender holds a place for nothing, ms. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Longest path segment that is looked at, characters: a longer one is still answered as no method. */
const SEGMENT_LIMIT = 16 * 1024;

export interface LocalSocketOptions {
  path: string;
  /** Group that may connect; empty for the owner alone. */
  group: string;
  access: 'full' | 'read-only';
  /** Tells who calls; null where nobody can. */
  peers: Peers | null;
  log: Log;
  dispatcher: Dispatcher;
  events: EventStore;
  uploads: Uploads;
}

export class LocalSocket {
  readonly #options: LocalSocketOptions;
  readonly #http: FastifyInstance;
  readonly #stop = new AbortController();
  readonly #callers: LocalCallers;
  /** One for each follower of events. */
  readonly #streams = new Set<Promise<void>>();

  constructor(options: LocalSocketOptions) {
    this.#options = options;
    const via = options.access === 'full' ? 'socket' : 'read-only-socket';
    this.#callers = new LocalCallers({ via, peers: options.peers, log: options.log });
    this.#http = Fastify({
      bodyLimit: BODY_BYTES_LIMIT,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      exposeHeadRoutes: false,
      http: { requireHostHeader: false },
      routerOptions: { maxParamLength: SEGMENT_LIMIT },
      clientErrorHandler: refuseUnreadable,
      frameworkErrors: (error, _request, reply) => sendError(reply, fromHttp(error)),
    });
    limitPlaces(this.#http.server, CONNECTIONS_LIMIT);
    this.#acceptEmptyBodies();
    this.#routes();
    if (options.access === 'full')
      void this.#http.register(async (http) => uploadRoutes(http, options.uploads));
    else this.#http.all('/v1/uploads/*', { onRequest: refuseUpload }, refuseUpload);
  }

  /**
   * @throws {AgentError} HOST_CONFLICT: the path is taken by something that is no socket. INVALID_ARGUMENT: no
   * such group. UNAVAILABLE: no socket can be made there.
   */
  async listen(): Promise<void> {
    const { path, group } = this.#options;
    const gid = group === '' ? null : groupId(group);
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    removeStaleSocket(path);
    await this.#http.ready();
    await bind(this.#http.server, path);
    if (gid === null) return;
    chownSync(path, 0, gid);
    chmodSync(path, 0o660);
  }

  /** Ends the streams, then cuts every connection, those that wait for an answer too. */
  async close(): Promise<void> {
    this.#stop.abort();
    const { server } = this.#http;
    const closed = server.listening ? once(server, 'close') : null;
    server.close();
    await Promise.allSettled(this.#streams);
    await turn(); // in which the ends of the streams go out
    server.closeAllConnections();
    await this.#http.close();
    await closed;
  }

  #acceptEmptyBodies(): void {
    this.#http.removeAllContentTypeParsers();
    this.#http.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
      if (body === '') return done(null, undefined);
      try {
        done(null, parseJson(body as string));
      } catch (cause) {
        done(new AgentError('INVALID_ARGUMENT', 'The body cannot be read', { cause }));
      }
    });
  }

  #routes(): void {
    this.#http.get('/v1/methods', async () => ({ methods: METHOD_NAMES }));
    this.#http.get('/v1/events', (request, reply) =>
      this.#follow((request.query as { after?: string }).after, reply),
    );
    this.#http.post('/v1/:method', async (request, reply) => {
      const { method } = request.params as { method: string };
      const signal = closeSignal(reply.raw);
      return this.#options.dispatcher.call(method, request.body, {
        role: this.#options.access === 'full' ? 'admin' : 'observe',
        signal,
        identity: this.#callers.identityOf(request.raw.socket),
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
    if (this.#streams.size >= FOLLOWERS_LIMIT) {
      return sendError(
        reply,
        new AgentError('LIMIT_REACHED', `${FOLLOWERS_LIMIT} callers follow the events already`),
      );
    }
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
    reply.raw.flushHeaders();
    const stream = pumpEvents(this.#options.events, after, reply.raw, this.#stop.signal);
    this.#streams.add(stream);
    try {
      await stream.finally(() => reply.raw.end());
    } finally {
      this.#streams.delete(stream);
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

/** Aborted when the stream is closed: at its end, by the far side, or by ours. */
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
  const goOn = () => resolve();
  const unsubscribe = events.subscribe((event: BerthEvent) => event.seq > after && goOn());
  signal.addEventListener('abort', goOn, { once: true });
  if (signal.aborted || events.lastSeq() > after) goOn();
  return promise.finally(() => {
    unsubscribe();
    signal.removeEventListener('abort', goOn);
  });
}

/** Before the body is read. */
async function refuseUpload(): Promise<never> {
  throw new AgentError('PERMISSION_DENIED', 'The read-only socket takes no uploads');
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

/** What did not even come to be a request; after it nothing on the connection can be read. */
function refuseUnreadable(cause: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || cause.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const error =
    cause.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? new AgentError('DEADLINE_EXCEEDED', `No whole request in ${REQUEST_TIMEOUT_MS / 1000} s`)
      : new AgentError('INVALID_ARGUMENT', 'Not an HTTP request', { cause });
  const body = JSON.stringify({ error: error.toBody() });
  const head = [
    `HTTP/1.1 ${httpStatusOf(error.code)} Refused`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}

/** Binds with mode 0600. The mask holds for the bind alone, which is made at once: other files keep their modes. */
async function bind(server: Server, path: string): Promise<void> {
  const listening = once(server, 'listening');
  const mask = process.umask(0o177);
  try {
    server.listen({ path });
  } finally {
    process.umask(mask);
  }
  await listening.catch((cause: unknown) => {
    throw new AgentError('UNAVAILABLE', `Cannot listen on ${path}`, { cause, hint: 'See socket.path.' });
  });
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
