/** The gateway of the link benchmark: takes everyone, and counts the frames that agents send. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { Authority } from '../src/scheduler/ca/authority.ts';
import { systemClock } from '../src/scheduler/clock.ts';
import { AgentGateway } from '../src/scheduler/gateway/agent-gateway.ts';
import type { AgentPeer } from '../src/scheduler/gateway/agent-peer.ts';
import type { AgentSession } from '../src/scheduler/gateway/agent-session.ts';
import { Doorkeeper } from '../src/scheduler/gateway/doorkeeper.ts';
import { Floodgate } from '../src/scheduler/gateway/floodgate.ts';
import { LinkTable } from '../src/scheduler/gateway/link-table.ts';
import { BearerCheck } from '../src/scheduler/token.ts';
import { eventually } from '../test/scheduler/support/eventually.ts';
import { WELCOMING } from '../test/scheduler/support/gateway-lab.ts';
import { FrameCounter } from './link-frames.ts';
import type { Target } from './link-node.ts';

export const TOKEN = 'a-token-of-the-benchmark';
const HOST = '127.0.0.1';
const DAY_MS = 86_400_000;

export class BenchGateway {
  readonly authorityPem: string | null;
  introduced = 0;
  readonly #counter = new FrameCounter();
  readonly #links = new LinkTable();
  readonly #server: Server;
  readonly #gateway: AgentGateway;

  private constructor(server: Server, authorityPem: string | null) {
    this.#server = server;
    this.authorityPem = authorityPem;
    this.#gateway = new AgentGateway({
      clock: systemClock,
      logger: pino({ level: 'silent' }),
      doorkeeper: new Doorkeeper({
        clock: systemClock,
        bearer: new BearerCheck(TOKEN),
        agentsShow: 'bearer',
      }),
      floodgate: new Floodgate(systemClock, { links: { burst: 100_000, refillMs: 1 }, window: 100_000 }),
      peer: this.#peer(),
      links: this.#links,
      probeIntervalMs: () => 5_000,
    });
    server.on('upgrade', (request, socket, head) => {
      if (authorityPem === null) socket.on('data', (chunk: Buffer) => this.#counter.take(chunk));
      this.#gateway.handleUpgrade(request, socket, head);
    });
  }

  static async listen(kind: 'plain' | 'tls'): Promise<BenchGateway> {
    const folder = mkdtempSync(join(tmpdir(), 'berth-bench-ca-'));
    const authority = new Authority({ folder, clock: systemClock, lifetimeMs: DAY_MS });
    const { cert, key } = authority.issueForScheduler([HOST]);
    const server =
      kind === 'plain' ? createServer() : createSecureServer({ cert, key, minVersion: 'TLSv1.3' });
    rmSync(folder, { recursive: true });
    server.listen(0, HOST);
    await once(server, 'listening');
    return new BenchGateway(server, kind === 'plain' ? null : authority.pem);
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `${this.authorityPem === null ? 'ws' : 'wss'}://${HOST}:${port}`;
  }

  /** Where an agent connects to. */
  get target(): Target {
    return { url: this.url, token: TOKEN, authorityPem: this.authorityPem };
  }

  frames(method: string) {
    return this.#counter.frames.filter(({ text }) => text.includes(`"method":"${method}"`));
  }

  async session(nodeId: string): Promise<AgentSession> {
    return eventually(() => this.#links.session(nodeId));
  }

  async close(): Promise<void> {
    await this.#gateway.close();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #peer(): AgentPeer {
    return {
      ...WELCOMING,
      onHello: async (_session, { lastSeq }) => ({ epoch: 1, lastSeq, lastAt: null, heartbeatSeconds: 1 }),
      onIntroduced: (session, nodeId) => {
        this.introduced++;
        this.#links.assign(nodeId, session);
      },
    };
  }
}
