/**
 * A real S3 server on the loopback: OpenStack Swift (swift-server.py), behind a proxy that counts what is sent to it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { systemClock } from '../../../../src/drivers/contracts/clock.ts';
import type { S3Limits, S3Settings } from '../../../../src/drivers/s3/settings.ts';
import { S3Store } from '../../../../src/drivers/s3/store.ts';

/** Debian's, which has Debian's Swift: another one may come first on the path. */
const PYTHON = '/usr/bin/python3';
export const BUCKET = 'berth-tests';
export const SECRET = 'testing';

export interface S3Server {
  endpoint: string;
  folder: string;
  /** Bytes that it has been sent, headers included. */
  receivedBytes(): number;
  /** A store in its bucket. */
  store(settings?: Partial<S3Settings>, limits?: Partial<S3Limits>): Promise<S3Store>;
}

/** Starts it, and stops it with the test. */
export async function startS3Server(t: Test): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-s3-'));
  const files = join(folder, 'swift');
  const script = join(import.meta.dirname, 'swift-server.py');
  const child = spawn(PYTHON, [script, files, BUCKET], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(async () => {
    await stop(child);
    await rm(folder, { recursive: true });
  });
  const { port } = JSON.parse(await firstLine(child)) as { port: number };
  const proxy = await countingProxy(t, port);
  const endpoint = `http://127.0.0.1:${proxy.port}`;
  return {
    endpoint,
    folder,
    receivedBytes: proxy.receivedBytes,
    store: async (settings = {}, limits = {}) =>
      makeStore(t, { endpoint, credentialsFile: await credentialsFile(folder), ...settings }, limits),
  };
}

/** A store that is closed with the test. */
export function makeStore(
  t: Test,
  settings: Partial<S3Settings> & Pick<S3Settings, 'endpoint' | 'credentialsFile'>,
  limits: Partial<S3Limits> = {},
): S3Store {
  const store = new S3Store({
    settings: { name: 'test', region: 'us-east-1', bucket: BUCKET, prefix: '', pathStyle: true, ...settings },
    clock: systemClock,
    random: Math.random,
    limits: { firstPauseMs: 5, longestPauseMs: 20, ...limits },
  });
  t.teardown(() => store.close());
  return store;
}

export async function credentialsFile(folder: string, secret = SECRET): Promise<string> {
  const path = join(folder, `credentials-${secret}`);
  await writeFile(path, `accessKeyId = test:tester\nsecretAccessKey = ${secret}\n`, { mode: 0o600 });
  return path;
}

async function firstLine(child: ChildProcess): Promise<string> {
  const line = once(createInterface({ input: child.stdout! }), 'line').then(([text]) => String(text));
  const exit = once(child, 'exit').then(([code]) => {
    throw new Error(`the S3 server ended with ${code}: is Debian's python3-swift installed?`);
  });
  return await Promise.race([line, exit]);
}

/** It leaves when its standard input ends. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const exited = once(child, 'exit');
  child.stdin?.end();
  await exited;
}

async function countingProxy(
  t: Test,
  target: number,
): Promise<{ port: number; receivedBytes: () => number }> {
  let receivedBytes = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => [client, upstream].map((each) => each.destroy()));
    }
    client.on('data', (bytes) => {
      receivedBytes += bytes.length;
    });
    client.pipe(upstream).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, receivedBytes: () => receivedBytes };
}
