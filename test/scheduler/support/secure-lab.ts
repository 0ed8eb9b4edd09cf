/**
 * A scheduler that is its own authority, on real TLS, and agents on simulated hosts that enrol at it. Cleans up after the
 * test.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import type { Test } from 'tap';
import { WebSocket } from 'ws';
import { Agent } from '../../../src/agent/agent.ts';
import { parseConfig } from '../../../src/agent/config/load.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../../../src/drivers/sim/index.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../../src/model/wire.ts';
import { makeRequest } from '../../../src/model/x509/request.ts';
import { Authority } from '../../../src/scheduler/ca/authority.ts';
import { type Clock, systemClock as schedulerClock } from '../../../src/scheduler/clock.ts';
import type { BusOptions } from '../../../src/scheduler/relay/bus.ts';
import { type Scheduler, startScheduler } from '../../../src/scheduler/scheduler.ts';
import { eventually } from './eventually.ts';
import { anInventory } from './samples.ts';

export const BEARER = 'a-bearer-token-of-the-test';
const DAY_MS = 86_400_000;

export interface LabOptions {
  /** Of certificates of nodes, ms. @default 30 days */
  lifetimeMs?: number;
  /** @default localhost and 127.0.0.1 */
  hosts?: string[];
  /** Of the scheduler, as far as certificates and tokens go. @default the host's */
  clock?: Clock;
  /** @default any */
  port?: number;
  /** Joins gateways. @default none */
  bus?: BusOptions;
}

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  body: any;
}

export class SecureLab {
  readonly stateDir = mkdtempSync(join(tmpdir(), 'gsec-'));
  readonly logged: string[] = [];
  #options: LabOptions;
  scheduler!: Scheduler;

  constructor(options: LabOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { lifetimeMs = 30 * DAY_MS, hosts = ['localhost', '127.0.0.1'] } = this.#options;
    const { clock = schedulerClock, port = 0, bus = null } = this.#options;
    const logger = pino({ level: 'debug' }, { write: (line: string) => void this.logged.push(line) });
    this.scheduler = await startScheduler(
      {
        listen: { host: '127.0.0.1', port },
        stateDir: this.stateDir,
        token: BEARER,
        heartbeatSeconds: 1,
        bus,
        tls: { kind: 'authority', hosts, lifetimeMs },
      },
      { clock, logger },
    );
  }

  /** On the same port and state, with other options. */
  async restart(options: LabOptions = {}): Promise<void> {
    const { port } = this.scheduler.address;
    await this.scheduler.close();
    this.#options = { ...this.#options, ...options, port };
    await this.start();
  }

  get host(): string {
    return `localhost:${this.scheduler.address.port}`;
  }

  get ca(): string {
    return readFileSync(join(this.stateDir, 'ca/ca.pem'), 'utf8');
  }

  /** The authority itself, as one who has stolen its key, or a clock that differs, would have it. */
  authority(clock: Clock = schedulerClock, lifetimeMs = DAY_MS): Authority {
    return new Authority({ folder: join(this.stateDir, 'ca'), clock, lifetimeMs });
  }

  async ask(
    method: 'GET' | 'POST',
    path: string,
    body?: unknown,
    bearer: string | null = BEARER,
    more: Record<string, string> = {},
  ): Promise<Answer> {
    const headers = {
      ...more,
      'content-type': 'application/json',
      ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
    };
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const sent = request(
      `https://${this.host}${path}`,
      { method, headers, ca: this.ca, agent: false },
      (response) => {
        text(response)
          .then((answer) => resolve({ status: response.statusCode ?? 0, body: JSON.parse(answer) }))
          .catch(reject);
      },
    );
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  }

  async token(options: { ttlSeconds?: number; node?: string } = {}): Promise<string> {
    const { status, body } = await this.ask('POST', '/v1/enrolment-tokens', options);
    if (status !== 200) throw new Error(JSON.stringify(body));
    return body.token;
  }

  enrol(body: object): Promise<Answer> {
    return this.ask('POST', '/v1/enrol', body, null);
  }

  async stop(): Promise<void> {
    await this.scheduler.close();
    rmSync(this.stateDir, { recursive: true, force: true });
  }
}

export async function secureLab(t: Test, options: LabOptions = {}): Promise<SecureLab> {
  const lab = new SecureLab(options);
  await lab.start();
  t.teardown(() => lab.stop());
  return lab;
}

/** The secret in a token. */
export function secretOf(token: string): string {
  return JSON.parse(Buffer.from(token.slice('berth1.'.length), 'base64url').toString()).secret;
}

export interface Keys {
  publicKey: KeyObject;
  privateKey: KeyObject;
  /** PEM */
  key: string;
}

export function newKeys(): Keys {
  const keys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return { ...keys, key: keys.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string };
}

export function requestOf(nodeId: string, keys: Keys): string {
  return makeRequest(nodeId, keys).toString('base64');
}

/** What became of a connection: the scheduler's answer to the hello, or why there was none. */
export interface Tried {
  status: number | null;
  message: string;
  closeCode: number | null;
  welcomed: boolean;
  socket: WebSocket;
}

/** Connects as an agent with this certificate, and says hello for this node. */
export async function tryHello(
  lab: SecureLab,
  { nodeId, bearer, ...tls }: { nodeId: string; cert?: string; key?: string; bearer?: string },
): Promise<Tried> {
  const socket = new WebSocket(`wss://${lab.host}${AGENT_PATH}`, SUBPROTOCOL, {
    ca: lab.ca,
    ...tls,
    headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
  });
  const tried: Tried = { status: null, message: '', closeCode: null, welcomed: false, socket };
  let settled = false;
  socket.on('unexpected-response', (_request, response) => {
    tried.status = response.statusCode ?? null;
    text(response)
      .then((body) => {
        tried.message = JSON.parse(body).error.message;
      })
      .finally(() => {
        settled = true;
      });
  });
  socket.on('error', (error) => {
    tried.message ||= error.message;
    settled = true;
  });
  socket.on('close', (code, reason) => {
    tried.closeCode = code;
    tried.message ||= String(reason);
    settled = true;
  });
  socket.on('open', () => {
    const none = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };
    const inventory = anInventory({ nodeId, hostname: 'h', generation: 1, total: none, used: none });
    const params = { nodeId, version: '0.1.0', inventory, lastSeq: 0 };
    socket.send(JSON.stringify({ jsonrpc: '2.0', id: 'hello', method: 'hello', params }));
  });
  socket.on('message', (data) => {
    const { id, result, error } = JSON.parse(String(data));
    if (id !== 'hello') return;
    tried.welcomed = result !== undefined;
    if (error !== undefined) tried.message = error.message;
    if (tried.welcomed) settled = true;
  });
  await eventually(() => settled);
  return tried;
}

export interface Host {
  folder: string;
  agent: Agent;
  logged: string[];
  nodeId: string;
  restart(): Promise<void>;
}

/** A running agent on a simulated host. @param scheduler Of its configuration, TOML. */
export async function startHost(t: Test, scheduler = ''): Promise<Host> {
  const folder = mkdtempSync(join(tmpdir(), 'gnod-'));
  const world = new SimWorld({ clock: systemClock });
  const logged: string[] = [];
  const at = (level: string) => (fields: object, message: string) =>
    void logged.push(
      JSON.stringify({ level, message, ...fields, error: String((fields as { error?: unknown }).error) }),
    );
  const log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  const make = () => {
    const config = parseConfig(
      `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/berth.sock"\n[scheduler]\n${scheduler}`,
      'test.toml',
    );
    const { world: _world, ...drivers } = createSimHost({ world });
    return new Agent({ config, drivers, clock: systemClock, log });
  };
  const agent = make();
  const host: Host = {
    folder,
    agent,
    logged,
    nodeId: agent.services.store.meta.get('node_id') as string,
    restart: async () => {
      await host.agent.stop();
      host.agent = make();
      await host.agent.start();
    },
  };
  await agent.start();
  t.teardown(async () => {
    await host.agent.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  return host;
}

/** Calls a method as the operator of the host. */
// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
export function call(host: Host, method: string, params: unknown = {}): Promise<any> {
  return host.agent.dispatcher.call(method, params, { role: 'admin' });
}

/** Waits until the node's link to its scheduler is so. */
export async function schedulerIs(host: Host, state: 'ok' | 'unavailable', reason = /./): Promise<void> {
  await eventually(async () => {
    const { scheduler } = await call(host, 'node.status');
    return scheduler.state === state && reason.test(scheduler.reason);
  });
}
