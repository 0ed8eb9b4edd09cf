/**
 * `berth-scheduler gateway` in one piece: a door for agents that carries their links to the scheduler over NATS. It has no
 * state, and nothing of the HTTP API but GET /healthz.
 */
import { randomUUID, type X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../clock.ts';
import { Doorkeeper } from '../gateway/doorkeeper.ts';
import { BACKLOG, Entrance } from '../gateway/entrance.ts';
import { prepareTls, type TlsChoice } from '../tls.ts';
import { BearerCheck, loadOrCreateToken } from '../token.ts';
import { type BusOptions, connectBus } from './bus.ts';
import { type Proven, RelayFront } from './front.ts';
import { LINKS_LIMIT } from './messages.ts';

/** Connections at a time: twice as many as links, so that those who come back find a place beside what is left of them. */
const CONNECTIONS_LIMIT = 2 * LINKS_LIMIT;

export interface GatewayOptions {
  listen: { readonly host: string; readonly port: number };
  bus: BusOptions;
  /** File with the bearer token of agents; null where they show certificates. */
  tokenFile: string | null;
  tls: TlsChoice | null;
}

export interface Gateway {
  address: AddressInfo;
  /** Closes the links, so that agents go elsewhere. */
  close(): Promise<void>;
}

/** @throws {AgentError} UNAVAILABLE: no NATS. INVALID_ARGUMENT: a file. An error of the system where the address is taken. */
export async function startGateway(
  options: GatewayOptions,
  { clock, logger }: { clock: Clock; logger: Logger },
): Promise<Gateway> {
  const tls = options.tls === null ? null : prepareTls(options.tls, '', clock);
  const agentsShow = tls?.agentsShow ?? 'bearer';
  const bearer = new BearerCheck(agentsShow === 'bearer' ? tokenOf(options) : randomUUID());
  const doorkeeper = new Doorkeeper({ clock, bearer, agentsShow });
  const bus = await connectBus(options.bus, logger);
  const front = new RelayFront({
    bus,
    clock,
    logger,
    newId: randomUUID,
    name: options.bus.name,
    admit: (request) => admit(doorkeeper, request),
  });
  const server = tls === null ? createServer(health) : createSecureServer(tls.options, health);
  server.on('upgrade', (request, socket, head) => front.handleUpgrade(request, socket, head));
  const entrance = new Entrance(server, {
    clock,
    connections: CONNECTIONS_LIMIT,
    isSecure: tls !== null,
    door: front,
  });
  const close = async (): Promise<void> => {
    server.close();
    entrance.close();
    await front.close();
    await bus.close();
  };
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ ...options.listen, backlog: BACKLOG }, resolve);
    });
  } catch (error) {
    await close();
    throw error;
  }
  await front.announce();
  return { address: server.address() as AddressInfo, close };
}

/** The certificate's serial goes to the scheduler, which knows what is revoked. */
function admit(doorkeeper: Doorkeeper, request: IncomingMessage): Proven | null {
  const nodeId = doorkeeper.admit(request);
  if (nodeId === null) return null;
  const certificate = (request.socket as TLSSocket).getPeerX509Certificate() as X509Certificate;
  return { nodeId, serial: certificate.serialNumber };
}

function tokenOf({ tokenFile }: GatewayOptions): string {
  if (tokenFile !== null && existsSync(tokenFile)) return loadOrCreateToken(tokenFile);
  throw new AgentError('INVALID_ARGUMENT', 'A gateway without --client-ca needs the token that agents show', {
    hint: "Name a copy of the scheduler's token file with --token-file.",
  });
}

function health(request: IncomingMessage, response: ServerResponse): void {
  const isHealth = request.method === 'GET' && request.url === '/healthz';
  const error = new AgentError('NOT_FOUND', 'This is a gateway for agents', {
    hint: 'The HTTP API is on the scheduler.',
  });
  response.writeHead(isHealth ? 200 : 404, { 'content-type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify(isHealth ? { status: 'ok' } : { error: error.toBody() }));
}
