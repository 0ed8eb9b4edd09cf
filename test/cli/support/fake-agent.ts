/**
 * The far side of the local socket: a server that answers as a test says, and checks both directions.
 *
 * Parameters and results go through the schemas of the method table, so that a test cannot drift from the
 * protocol; a handler answers beside it by returning one of the `Misbehaviour`s.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { BerthEvent } from '../../../src/model/event.ts';
import {
  isMethodName,
  METHODS,
  type MethodName,
  type Params,
  type Result,
} from '../../../src/model/methods.ts';
import { parse } from '../../../src/model/validate.ts';

/** What a broken or hostile server does instead of answering. */
export type Misbehaviour =
  | { wire: 'break' }
  | { wire: 'truncate' }
  | { wire: 'silence' }
  | { wire: 'bytes'; status: number; body: string };

export type Handlers = {
  [M in MethodName]?: (params: Params<M>) => Result<M> | Misbehaviour | Promise<Result<M> | Misbehaviour>;
};

export interface FakeAgent {
  socketPath: string;
  /** Every request that came, in order. */
  calls: { method: string; params: Record<string, unknown> }[];
  /** What each caller who follows events is sent, before the connection is closed. */
  streams: (BerthEvent[] | string)[];
  /** `after` of each caller who followed. */
  followedAfter: number[];
  close(): Promise<void>;
}

export async function fakeAgent(t: Test, handlers: Handlers): Promise<FakeAgent> {
  const folder = await mkdtemp(join(tmpdir(), 'gcli-'));
  const agent: FakeAgent = {
    socketPath: join(folder, 'berth.sock'),
    calls: [],
    streams: [],
    followedAfter: [],
    close: () => close(server),
  };
  const server = createServer((request, response) => {
    serve(request, response, handlers, agent).catch((error: unknown) => {
      const { code } = AgentError.from(error);
      send(response, code === 'INTERNAL' ? 500 : 400, { error: AgentError.from(error).toBody() });
    });
  });
  await new Promise<void>((resolve) => server.listen(agent.socketPath, resolve));
  t.teardown(async () => {
    await close(server);
    await rm(folder, { recursive: true, force: true });
  });
  return agent;
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  handlers: Handlers,
  agent: FakeAgent,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://berth');
  if (request.method === 'GET') return stream(url, response, agent);
  const method = decodeURIComponent(url.pathname.replace('/v1/', ''));
  const params = JSON.parse(await bodyOf(request)) as Record<string, unknown>;
  agent.calls.push({ method, params });
  if (!isMethodName(method)) throw new AgentError('UNSUPPORTED', `There is no method ${method}`);
  const handler = handlers[method] as ((params: unknown) => unknown) | undefined;
  if (handler === undefined) throw new AgentError('UNSUPPORTED', `The test answers no ${method}`);
  const answer = await handler(parse(METHODS[method].params, structuredClone(params), `params of ${method}`));
  if (isMisbehaviour(answer)) return misbehave(answer, request, response);
  send(response, 200, parse(METHODS[method].result, answer, `result of ${method}`));
}

function stream(url: URL, response: ServerResponse, agent: FakeAgent): void {
  agent.followedAfter.push(Number(url.searchParams.get('after')));
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const next = agent.streams.shift() ?? [];
  response.end(typeof next === 'string' ? next : next.map((event) => `${JSON.stringify(event)}\n`).join(''));
}

function misbehave(answer: Misbehaviour, request: IncomingMessage, response: ServerResponse): void {
  switch (answer.wire) {
    case 'break':
      request.socket.destroy();
      return;
    case 'truncate':
      response.writeHead(200, { 'content-length': 1000 });
      response.write('{"instances":[');
      setImmediate(() => request.socket.end());
      return;
    case 'silence':
      return;
    case 'bytes':
      response.writeHead(answer.status);
      response.end(answer.body);
      return;
  }
}

function isMisbehaviour(answer: unknown): answer is Misbehaviour {
  return typeof answer === 'object' && answer !== null && 'wire' in answer;
}

function send(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
