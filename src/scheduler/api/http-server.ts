/**
 * The HTTP server: authentication, bodies, errors and routes. What a route does is in api/routes.
 *
 * Each request but GET /healthz and those to open routes shows the bearer token. Each error is `{ error: ErrorBody }` with the status
 * of its code; INTERNAL is logged here, once.
 */
import type { ServerOptions as SecureServerOptions } from 'node:https';
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';
import { httpStatusOf } from '../../model/http-status.ts';
import { parseJson } from '../../model/json.ts';
import { parse } from '../../model/validate.ts';
import { AGENT_PATH } from '../../model/wire.ts';
import type { BearerCheck } from '../token.ts';
import { openApiOf } from './openapi.ts';
import { IdempotencyKey } from './parameters.ts';
import type { Route } from './route.ts';

/** Largest body: a spec with all its user-data and keys fits; anything larger is no request of ours. */
const BODY_BYTES_LIMIT = 1024 * 1024;
/** Milliseconds a client has to send a request. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Seconds after which a caller may try again what was refused for the moment. */
const RETRY_AFTER_SECONDS = '5';
const HEALTH_PATH = '/healthz';

export function buildHttpServer(parts: {
  routes: readonly Route[];
  bearer: BearerCheck;
  logger: Logger;
  /** @default plain HTTP */
  tls?: SecureServerOptions | null;
}): FastifyInstance {
  const app = Fastify({
    ...(parts.tls ? { https: parts.tls } : {}),
    logger: false,
    bodyLimit: BODY_BYTES_LIMIT,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: 'idle',
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 253 },
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    async (_request: unknown, body: string) => (body === '' ? undefined : parseJson(body)),
  );
  const open = new Set([HEALTH_PATH, ...parts.routes.filter(({ isOpen }) => isOpen).map(({ path }) => path)]);
  app.addHook('onRequest', async (request) => authenticate(request, parts.bearer, open));
  app.addHook('onResponse', async (request, reply) => {
    parts.logger.debug({ method: request.method, url: request.url, status: reply.statusCode }, 'request');
  });
  app.setErrorHandler((error: FastifyError, request, reply) =>
    sendError(error, request, reply, parts.logger),
  );
  app.setNotFoundHandler((request) => {
    throw new AgentError('NOT_FOUND', `There is no ${request.method} ${pathOf(request)} here`, {
      hint: 'GET /v1/openapi.json tells what there is.',
    });
  });
  addFixedRoutes(app, parts.routes);
  for (const route of parts.routes) addRoute(app, route);
  return app;
}

function addFixedRoutes(app: FastifyInstance, routes: readonly Route[]): void {
  const document = openApiOf(routes);
  app.get(HEALTH_PATH, () => ({ status: 'ok' }));
  app.get('/v1/openapi.json', () => document);
  app.get(AGENT_PATH, () => {
    throw new AgentError('INVALID_ARGUMENT', 'Agents connect here with a WebSocket upgrade');
  });
}

function addRoute(app: FastifyInstance, route: Route): void {
  app.route({
    method: route.method,
    url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
    handler: async (request, reply) => {
      const result = await route.handle({
        params: parse(route.params, request.params, 'path'),
        query: parse(route.query, request.query, 'query'),
        body: parse(route.body, request.body ?? {}, 'body'),
        key: keyOf(request, route),
      });
      return reply.status(route.status).send(result);
    },
  });
}

function keyOf(request: FastifyRequest, route: Route): string | null {
  const key = request.headers['idempotency-key'];
  if (key === undefined || !route.takesKey) return null;
  return parse(IdempotencyKey, key, 'header Idempotency-Key') as string;
}

class Unauthenticated extends AgentError {
  readonly statusCode = 401;
}

function authenticate(request: FastifyRequest, bearer: BearerCheck, open: ReadonlySet<string>): void {
  if (open.has(pathOf(request)) || bearer.accepts(request.headers.authorization)) return;
  throw new Unauthenticated('PERMISSION_DENIED', 'A bearer token is needed, and this is not it', {
    hint: 'Send the token of the file that --token-file names, as `Authorization: Bearer TOKEN`.',
  });
}

function sendError(thrown: FastifyError, request: FastifyRequest, reply: FastifyReply, logger: Logger) {
  const error = errorOf(thrown);
  const status = statusOf(thrown, error);
  if (error.code === 'INTERNAL') {
    logger.error({ err: thrown, method: request.method, path: pathOf(request) }, 'request failed');
  }
  if (status === 401) reply.header('www-authenticate', 'Bearer');
  if (error.retryable) reply.header('retry-after', RETRY_AFTER_SECONDS);
  return reply.status(status).send({ error: error.toBody() });
}

/** Fastify's own refusals (too large, not JSON by its type) are the caller's fault. */
function errorOf(thrown: FastifyError | AgentError): AgentError {
  if (thrown instanceof AgentError || !isRefusal(thrown)) return AgentError.from(thrown);
  return new AgentError('INVALID_ARGUMENT', thrown.message);
}

function statusOf(thrown: FastifyError | AgentError, error: AgentError): number {
  return isRefusal(thrown) ? (thrown as FastifyError).statusCode! : httpStatusOf(error.code);
}

function isRefusal(thrown: FastifyError | AgentError): boolean {
  const status = (thrown as FastifyError).statusCode ?? 0;
  return status >= 400 && status < 500;
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? request.url;
}
