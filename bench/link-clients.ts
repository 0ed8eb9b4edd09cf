/**
 * node --conditions=berth-source bench/link-clients.ts URL N TOKEN
 *
 * N agents that have nothing to say but that they live, until they are killed. Each says it at a time of its own, as agents do
 * that were started on their own.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { COMPRESSION, FEATURES, PROTOCOL_VERSION } from '../src/model/link.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../src/model/wire.ts';
import { anInventory } from '../test/scheduler/support/samples.ts';

const HEARTBEAT_MS = 10_000;
/** Handshakes are begun in groups, so that none waits for too many. */
const GROUP = 20;
const TOTAL = { VCPU: 64, MEMORY_MB: 262_144, DISK_GB: 4_096 };
const USED = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };

const [url = '', count = '0', token = ''] = process.argv.slice(2);

async function connect(): Promise<void> {
  const socket = new WebSocket(`${url}${AGENT_PATH}`, SUBPROTOCOL, {
    headers: { authorization: `Bearer ${token}` },
    rejectUnauthorized: false,
    perMessageDeflate: { ...COMPRESSION, clientMaxWindowBits: COMPRESSION.serverMaxWindowBits },
  });
  socket.on('error', (error) => console.error(error.message));
  await new Promise((resolve) => socket.once('open', resolve));
  const nodeId = randomUUID();
  const inventory = anInventory({ nodeId, hostname: 'idle', generation: 1, total: TOTAL, used: USED });
  const limits = { messageBytes: 1_048_576, requests: 8 };
  const outbox = { id: randomUUID(), keptAfter: 0 };
  const link = { version: PROTOCOL_VERSION, features: [...FEATURES], limits, outbox };
  const params = { nodeId, version: '0', inventory, revision: 'idle.1', lastSeq: 0, link };
  socket.send(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'hello', params }));
  void beat(socket);
}

async function beat(socket: WebSocket): Promise<void> {
  const text = JSON.stringify({ jsonrpc: '2.0', method: 'heartbeat', params: { revision: 'idle.1' } });
  await pause(Math.random() * HEARTBEAT_MS);
  setInterval(() => socket.send(text), HEARTBEAT_MS);
}

for (let left = Number(count); left > 0; left -= GROUP) {
  await Promise.all(Array.from({ length: Math.min(GROUP, left) }, connect));
  await pause(1);
}
