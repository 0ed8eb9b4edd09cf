/**
 * A gateway by itself on a free port, with an owner that takes everyone; several fit in one process.
 */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import type { Test } from 'tap';
import { WebSocket } from 'ws';
import { type Clock, systemClock } from '../../../src/scheduler/clock.ts';
import { AgentGateway, type GatewayParts } from '../../../src/scheduler/gateway/agent-gateway.ts';
import type { AgentPeer } from '../../../src/scheduler/gateway/agent-peer.ts';
import type { AgentSession } from '../../../src/scheduler/gateway/agent-session.ts';
import { Doorkeeper } from '../../../src/scheduler/gateway/doorkeeper.ts';
import { LinkTable } from '../../../src/scheduler/gateway/link-table.ts';
import { BearerCheck } from '../../../src/scheduler/token.ts';
import { TOKEN } from './lab.ts';

export class GatewayLab {
  readonly links = new LinkTable();
  /** Nodes whose hello was taken, in order. */
  readonly introduced: string[] = [];
  /** Nodes that were told of as reading again. */
  readonly withRoom: string[] = [];
  readonly port: number;

  constructor(port: number) {
    this.port = port;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/v1/agent`;
  }

  /** Connects without a word. @returns the socket, or how it was turned away. */
  async knock(token = TOKEN, options: object = {}): Promise<WebSocket | Turned> {
    const headers = { authorization: `Bearer ${token}` };
    const socket = new WebSocket(this.url, 'berth.v1', { headers, ...options });
    const { promise, resolve } = Promise.withResolvers<WebSocket | Turned>();
    socket.on('error', () => {}); // the close that follows says it all
    socket.on('open', () => resolve(socket));
    socket.on('unexpected-response', async (_request, response) => {
      let text = '';
      for await (const chunk of response) text += String(chunk);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(text) });
    });
    return promise;
  }

  /** An upgrade by hand, with headers that no library sends. @returns the extensions that were agreed on */
  async upgrade(extensions: string): Promise<string | undefined> {
    const asked = request({
      port: this.port,
      path: '/v1/agent',
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        'sec-websocket-protocol': 'berth.v1',
        'sec-websocket-extensions': extensions,
        authorization: `Bearer ${TOKEN}`,
      },
    });
    asked.end();
    const [response, socket] = await once(asked, 'upgrade');
    socket.destroy();
    return response.headers['sec-websocket-extensions'];
  }
}

export interface Turned {
  status: number;
  headers: IncomingHttpHeaders;
  body: { error: { code: string; message: string; details?: { retryAfterMs?: number } } };
}

/** Takes everyone, and wants nothing. */
export const WELCOMING: Omit<AgentPeer, 'onIntroduced'> = {
  toldBefore: () => null,
  onHello: async () => ({ epoch: 1, lastSeq: 0, lastAt: null, heartbeatSeconds: 5 }),
  onRoom: () => undefined,
  onHeartbeat: async () => undefined,
  onEvent: (session, _nodeId, { seq }) => session.acknowledge(seq),
  onSnapshot: (session, _nodeId, { seq, last }) => last && session.acknowledge(seq),
  onRenew: () => ({ certificate: '' }),
  onClosed: () => undefined,
};

export async function startGateway(
  t: Test,
  { clock = systemClock, ...parts }: Partial<GatewayParts> & { clock?: Clock } = {},
): Promise<GatewayLab> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const lab = new GatewayLab((server.address() as AddressInfo).port);
  const { links, withRoom, introduced } = lab;
  const onIntroduced = (session: AgentSession, nodeId: string): void => {
    introduced.push(nodeId);
    links.assign(nodeId, session);
  };
  const gateway = new AgentGateway({
    clock,
    logger: pino({ level: 'silent' }),
    doorkeeper: new Doorkeeper({ clock, bearer: new BearerCheck(TOKEN), agentsShow: 'bearer' }),
    peer: { ...WELCOMING, onIntroduced, onRoom: (_session, nodeId) => withRoom.push(nodeId) },
    links,
    probeIntervalMs: () => 5_000,
    ...parts,
  });
  server.on('upgrade', (asked, socket, head) => gateway.handleUpgrade(asked, socket, head));
  t.teardown(async () => {
    await gateway.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return lab;
}
