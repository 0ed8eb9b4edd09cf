/** berth-scheduler as a process: its command line, its readiness, its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { eventually } from './support/eventually.ts';
import { FakeAgent } from './support/fake-agent.ts';

const MAIN = join(import.meta.dirname, '../../src/scheduler/main.ts');

interface Running {
  process: ChildProcess;
  url: string;
  token: string;
}

function launch(args: string[]): ChildProcess {
  return spawn(process.execPath, ['--conditions=berth-source', MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function start(t: Test, stateDir: string): Promise<Running> {
  const child = launch(['--listen', '127.0.0.1:0', '--state-dir', stateDir]);
  t.teardown(() => child.kill('SIGKILL'));
  const { address } = await lineSaying(child, 'listening');
  return {
    process: child,
    url: `http://127.0.0.1:${(address as { port: number }).port}`,
    token: readFileSync(join(stateDir, 'token'), 'utf8').trim(),
  };
}

async function lineSaying(child: ChildProcess, message: string): Promise<Record<string, unknown>> {
  for await (const line of createInterface(child.stdout!)) {
    const entry = JSON.parse(line) as Record<string, unknown>;
    if (entry['msg'] === message) return entry;
  }
  throw new Error(`it ended without saying ${message}`);
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', resolve));
}

function endedBy(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  child.stdout!.resume();
  const exit = ended(child);
  child.kill(signal);
  return exit;
}

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'gsch-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

t.test('it says when it listens, and ends in order on SIGTERM with an agent connected', async (t) => {
  const { process: child, url, token } = await start(t, folder(t));
  const agent = new FakeAgent({ url, token });
  await agent.connect();
  t.equal(await endedBy(child, 'SIGTERM'), 0);
  t.equal(await eventually(() => agent.closeCode), 1001);
});

t.test('what was acknowledged is there after kill -9', async (t) => {
  const stateDir = folder(t);
  const first = await start(t, stateDir);
  const agent = new FakeAgent({ url: first.url, token: first.token });
  const before = await agent.connect();
  agent.emit('image.created', { n: 1 });
  await eventually(() => agent.acked === 1);
  await endedBy(first.process, 'SIGKILL');
  const second = await start(t, stateDir);
  agent.url = second.url;
  const welcome = await agent.connect();
  t.equal(welcome.lastSeq, 1);
  t.ok(welcome.epoch > before.epoch);
  await agent.drop();
  t.equal(await endedBy(second.process, 'SIGINT'), 0);
});

t.test('a wrong command line ends it with exit code 2', async (t) => {
  const child = launch(['--what']);
  const [code, said] = await Promise.all([ended(child), text(child.stderr!)]);
  t.equal(code, 2);
  t.match(said, /unknown option '--what'/);
});

t.test('where the address is taken it ends with exit code 1 and says so in its log', async (t) => {
  const { url } = await start(t, folder(t));
  const child = launch(['--listen', new URL(url).host, '--state-dir', folder(t)]);
  const [code, said] = await Promise.all([ended(child), text(child.stdout!)]);
  t.equal(code, 1);
  t.match(said, /EADDRINUSE/);
});
