/**
 * node --conditions=berth-source test/protocol/record.ts FOLDER
 *
 * Records what a real agent and a real scheduler of this version say to each other while an instance is made, stopped
 * and deleted, and by which schemas they read each other. Kept under recordings/, it stands for this version when later
 * ones are tested: it is made once for each revision of the protocol, and not again.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { WebSocket, WebSocketServer } from 'ws';
import { Agent } from '../../src/agent/agent.ts';
import { parseConfig } from '../../src/agent/config/load.ts';
import { systemClock } from '../../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../../src/drivers/sim/index.ts';
import { METHODS } from '../../src/model/methods.ts';
import * as wire from '../../src/model/wire.ts';
import { systemClock as schedulerClock } from '../../src/scheduler/clock.ts';
import { startScheduler } from '../../src/scheduler/scheduler.ts';
import { eventually } from '../scheduler/support/eventually.ts';
import { aSpec } from '../scheduler/support/samples.ts';

const TOKEN = 'a-token-for-recordings';
const IMAGE = 'https://images.example/debian.qcow2';
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

interface Line {
  from: 'agent' | 'scheduler';
  message: unknown;
}

/** Stands between both, and writes down what passes. */
async function listen(schedulerUrl: () => string, lines: Line[]): Promise<WebSocketServer> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: () => wire.SUBPROTOCOL });
  server.on('connection', (agent, request) => {
    const headers = { authorization: request.headers.authorization ?? '' };
    const scheduler = new WebSocket(`${schedulerUrl()}${wire.AGENT_PATH}`, wire.SUBPROTOCOL, { headers });
    const early: string[] = [];
    agent.on('message', (data) => {
      lines.push({ from: 'agent', message: JSON.parse(String(data)) });
      if (scheduler.readyState === WebSocket.OPEN) scheduler.send(String(data));
      else early.push(String(data));
    });
    scheduler.on('open', () => {
      for (const text of early) scheduler.send(text);
    });
    scheduler.on('message', (data) => {
      lines.push({ from: 'scheduler', message: JSON.parse(String(data)) });
      agent.send(String(data));
    });
    agent.on('close', () => scheduler.close());
    scheduler.on('close', () => agent.close());
  });
  await once(server, 'listening');
  return server;
}

async function main(target: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-record-'));
  writeFileSync(join(folder, 'token'), TOKEN);
  const scheduler = await startScheduler(
    { listen: { host: '127.0.0.1', port: 0 }, stateDir: ':memory:', token: TOKEN, heartbeatSeconds: 1 },
    { clock: schedulerClock, logger: pino({ level: 'silent' }) },
  );
  const port = scheduler.address.port;
  const lines: Line[] = [];
  const server = await listen(() => `ws://127.0.0.1:${port}`, lines);
  const world = new SimWorld({ clock: systemClock });
  world.sources.set(IMAGE, { sha256: 'a'.repeat(64), sizeBytes: 1_000_000, virtualSizeBytes: 1024 ** 3 });
  const config = parseConfig(
    `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/berth.sock"\n` +
      `[scheduler]\nurl = "ws://127.0.0.1:${(server.address() as AddressInfo).port}"\ntokenFile = "${folder}/token"\n`,
    'record.toml',
  );
  const agent = new Agent({ config, drivers: createSimHost({ world }), clock: systemClock, log: SILENT });
  await agent.start();
  await play(`http://127.0.0.1:${port}`, lines);
  await agent.stop();
  server.close();
  await scheduler.close();
  rmSync(folder, { recursive: true });
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, 'messages.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  writeFileSync(join(target, 'schemas.json'), `${JSON.stringify(schemas(lines))}\n`);
  console.log(`${lines.length} messages`);
}

async function play(url: string, lines: readonly Line[]): Promise<void> {
  const ask = async (method: string, path: string, body?: unknown) => {
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    const init = body === undefined ? {} : { body: JSON.stringify(body) };
    const response = await fetch(`${url}${path}`, { method, headers, ...init });
    // biome-ignore lint/suspicious/noExplicitAny: answers of every shape
    return (await response.json()) as any;
  };
  // biome-ignore lint/suspicious/noExplicitAny: answers of every shape
  const ended = async (answer: any) => {
    const { id } = answer.operation ?? answer.result.operation;
    const { operation } = await ask('GET', `/v1/operations/${id}?wait=30`);
    if (operation.state !== 'succeeded') throw new Error(JSON.stringify(operation));
  };
  const { id } = await eventually(async () => (await ask('GET', '/v1/nodes')).nodes[0]);
  const call = (method: string, params: object) => ask('POST', `/v1/nodes/${id}/call`, { method, params });
  await ended(await call('image.import', { name: 'debian', source: IMAGE }));
  await ended(await call('network.create', { spec: { name: 'lan', cidr: '10.80.0.0/24' } }));
  const spec = aSpec({ vcpus: 1, memoryMib: 256, nics: [{ network: 'lan' }], disks: [{ image: 'debian' }] });
  await ended(await ask('POST', '/v1/instances', { spec }));
  await ended(await ask('POST', '/v1/instances/web-1/stop', { mode: 'forced' }));
  const told = lines.length;
  await eventually(() => lines.slice(told).filter((line) => isHeartbeat(line)).length > 1);
  await ended(await ask('DELETE', '/v1/instances/web-1'));
  await ask('POST', `/v1/nodes/${id}/poll`, {});
}

function isHeartbeat({ message }: Line): boolean {
  return (message as { method?: string }).method === 'heartbeat';
}

/** How each side of this version reads the other, as far as it was recorded. */
function schemas(lines: readonly Line[]): object {
  const { RpcRequest, RpcResponse, HelloResult, AGENT_MESSAGES, SCHEDULER_MESSAGES } = wire;
  const asked = new Set(lines.map(({ message }) => (message as { method?: string }).method ?? ''));
  const methods = Object.entries(METHODS).filter(([name]) => asked.has(name));
  return {
    methods: Object.fromEntries(methods.map(([name, { params, result }]) => [name, { params, result }])),
    request: RpcRequest,
    response: RpcResponse,
    helloResult: HelloResult,
    ofAgent: AGENT_MESSAGES,
    ofScheduler: SCHEDULER_MESSAGES,
  };
}

await main(process.argv[2] ?? '');
