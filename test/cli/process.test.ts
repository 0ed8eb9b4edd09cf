/** What only a real process can show: streams, signals, permissions. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import { event, instance, NODE_STATUS, operation } from './support/fixtures.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');
/** An account that owns nothing. */
const NOBODY_UID = 65_534;

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(argv: string[], socketPath: string, uid?: number): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [MAIN, ...argv], {
    env: { PATH: process.env['PATH'], BERTH_SOCKET: socketPath },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
}

async function finished(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const ended: Ended = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (data) => (ended.stdout += String(data)));
  child.stderr.on('data', (data) => (ended.stderr += String(data)));
  child.stdin.end();
  [ended.code] = (await once(child, 'close')) as [number | null];
  return ended;
}

t.test('a process ends with the exit code, and the whole answer is written', async (t) => {
  const instances = Array.from({ length: 1000 }, () => instance());
  const { socketPath } = await fakeAgent(t, { 'instance.list': () => ({ instances }) });
  const { code, stdout, stderr } = await finished(start(['instance', 'list', '--json'], socketPath));
  t.strictSame({ code, stderr }, { code: 0, stderr: '' });
  t.strictSame(JSON.parse(stdout), { instances });
  t.equal((await finished(start(['status'], '/nowhere/berth.sock'))).code, 3);
  t.equal((await finished(start(['nonsense'], '/nowhere/berth.sock'))).code, 2);
});

t.test('a reader that goes away ends the command quietly', async (t) => {
  const handlers: Handlers = { 'event.list': () => ({ events: [], firstSeq: null, lastSeq: 0 }) };
  const agent = await fakeAgent(t, handlers);
  agent.streams = Array.from({ length: 10_000 }, (_, at) => [event(at + 1)]);
  const child = start(['events', '--follow', '--json'], agent.socketPath);
  child.stdout.once('data', () => child.stdout.destroy());
  const { code, stderr } = await finished(child);
  t.strictSame({ code, stderr }, { code: 0, stderr: '' });
});

t.test('Ctrl-C while waiting ends the process at once, and the operation goes on', async (t) => {
  let looked = () => {};
  const looking = new Promise<void>((resolve) => (looked = resolve));
  const { socketPath, calls } = await fakeAgent(t, {
    'instance.start': () => ({ operation: operation() }),
    'operation.get': () => {
      looked();
      return { wire: 'silence' };
    },
  });
  const child = start(['instance', 'start', 'demo'], socketPath);
  const ending = finished(child);
  await looking;
  child.kill('SIGINT');
  const { code, stderr } = await ending;
  t.equal(code, 130);
  t.match(stderr, /the operation goes on\n {2}hint: `berth operation wait/);
  t.notOk(calls.some(({ method }) => method === 'operation.cancel'));
});

const notRoot = process.getuid?.() === 0 ? false : 'only root can become another account';

t.test('a socket that the caller may not open says so', { skip: notRoot }, async (t) => {
  const { socketPath } = await fakeAgent(t, {});
  await chmod(dirname(socketPath), 0o755);
  await chmod(socketPath, 0o600);
  const { code, stdout, stderr } = await finished(start(['status'], socketPath, NOBODY_UID));
  t.strictSame({ code, stdout }, { code: 3, stdout: '' });
  t.match(stderr, /permission denied\n {2}hint: Use sudo, or join the group/);
});

/** Prints each module that is resolved. */
const TELL_MODULES =
  'data:text/javascript,import { registerHooks } from "node:module";' +
  'registerHooks({ resolve(name, context, next) {' +
  ' const found = next(name, context); console.error(found.url); return found; } });';

t.test(
  'a command loads only what it needs: no schemas, no other commands, no second HTTP client',
  async (t) => {
    const { socketPath } = await fakeAgent(t, { 'node.status': () => NODE_STATUS });
    const child = spawn(process.execPath, ['--import', TELL_MODULES, MAIN, 'status'], {
      env: { PATH: process.env['PATH'], BERTH_SOCKET: socketPath },
    });
    const { code, stderr } = await finished(child);
    t.equal(code, 0);
    t.match(stderr, /commands\/node\.ts/, 'the modules are seen');
    for (const heavy of ['typebox', '/ajv/', 'commands/instance.ts', 'node:http', 'node:crypto']) {
      t.notOk(stderr.includes(heavy), heavy);
    }
  },
);
