/** Which of a host's sockets is taken, and the options that are for another transport. */
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { connect, LibvirtUsageError } from '../../src/index.ts';
import { unixTransport } from '../../src/transport/unix.ts';
import { failureOf } from '../support/outcome.ts';

const NEVER = new AbortController().signal;

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'nlt-unix-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A listener that answers with its name. */
async function listen(t: Test, path: string, name: string): Promise<void> {
  const server = net.createServer((socket) => socket.end(name));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
}

/** Leaves a socket that nobody listens on, as a daemon that was killed does. */
async function abandon(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  const { execFile } = await import('node:child_process');
  await new Promise<void>((resolve) => void execFile(process.execPath, ['-e', script], () => resolve()));
}

async function answerOf(paths: [string, ...string[]]): Promise<string> {
  const stream = await unixTransport(paths).open(NEVER);
  let text = '';
  for await (const chunk of stream) text += chunk;
  return text;
}

t.test('the first socket that exists is taken', async (t) => {
  const dir = folder(t);
  const [own, shared] = [join(dir, 'own'), join(dir, 'shared')];
  await listen(t, shared, 'shared');
  t.equal(await answerOf([own, shared]), 'shared');
  t.equal(unixTransport([own, shared]).peer, shared);
  await listen(t, own, 'own');
  t.equal(await answerOf([own, shared]), 'own');
});

t.test('a socket whose daemon is gone gives way to the next', async (t) => {
  const dir = folder(t);
  const [own, shared] = [join(dir, 'own'), join(dir, 'shared')];
  await abandon(own);
  t.match(await failureOf(answerOf([own, shared])), {
    kind: 'unreachable',
    message: `${own}: nobody listens there`,
  });
  await listen(t, shared, 'shared');
  t.equal(await answerOf([own, shared]), 'shared');
});

t.test('a path that the system cannot take is a usage error', async (t) => {
  for (const socketPath of ['', '/x\0y', `/${'x'.repeat(107)}`, 7 as unknown as string]) {
    const error = await failureOf(connect('test:///default', { socketPath }));
    t.ok(error instanceof LibvirtUsageError);
    t.match(error.message, /socket's path has 1 to 107 bytes/);
  }
});

t.test(
  'an option of another transport, or that there is not, is a usage error: none is trusted in vain',
  async (t) => {
    const cases: [string, object, string][] = [
      ['test+tcp://127.0.0.1/default', { tls: {} }, 'option tls is for transport tls, and the URI means tcp'],
      ['test:///default', { tls: {} }, 'option tls'],
      ['test+tls://h/default', { ssh: {} }, 'option ssh'],
      ['test+ssh://h/default', { socketPath: '/x' }, 'option socketPath'],
      [
        'test+tls://h/default',
        { tls: { rejectUnauthorized: false } },
        'option tls has no rejectUnauthorized',
      ],
      ['test+tls://h/default', { tls: { verify: 0 } }, 'tls.verify is a boolean, got number'],
      ['test+tls://h/default', { tls: null }, 'option tls is an object, got null'],
      ['test+ssh://h/default', { ssh: { port: 22 } }, 'option ssh has no port'],
    ];
    for (const [uri, options, words] of cases) {
      const error = await failureOf(connect(uri, options));
      t.ok(error instanceof LibvirtUsageError);
      t.match(error.message, words);
    }
  },
);
