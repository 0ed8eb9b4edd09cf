import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { RunOptions } from '../../../src/drivers/host/exec.ts';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { PeerReader } from '../../../src/drivers/host/peers.ts';

/** The user `nobody` of Debian. */
const NOBODY = 65_534;

/** Connects, says nothing, and stays. */
const CLIENT = 'use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; <STDIN>';

interface Connected {
  socket: Socket;
  clientPid: number;
}

async function connectedAs(t: Test, uid: number): Promise<Connected> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-peers-'));
  chmodSync(folder, 0o755);
  const path = join(folder, 'socket');
  const server = createServer();
  server.listen({ path, writableAll: true });
  await once(server, 'listening');
  const client = spawn('perl', ['-e', CLIENT, path], { uid, stdio: ['pipe', 'ignore', 'inherit'] });
  const [socket] = (await once(server, 'connection')) as [Socket];
  t.teardown(() => {
    client.kill();
    socket.destroy();
    server.close();
    rmSync(folder, { recursive: true });
  });
  return { socket, clientPid: client.pid as number };
}

const descriptorOf = (socket: Socket) => (socket as unknown as { _handle: { fd: number } })._handle.fd;

const isRoot = process.getuid?.() === 0;

t.test('the kernel names user and process of the other end', async (t) => {
  const { socket, clientPid } = await connectedAs(t, process.getuid?.() ?? 0);
  const peer = await new PeerReader(new HostExec()).credentialsOf(descriptorOf(socket));
  t.match(peer, { pid: clientPid, uid: process.getuid?.() });
  t.type(peer.user, 'string');
});

t.test('another user is another one', { skip: isRoot ? false : 'needs root' }, async (t) => {
  const { socket, clientPid } = await connectedAs(t, NOBODY);
  const peer = await new PeerReader(new HostExec()).credentialsOf(descriptorOf(socket));
  t.same(peer, { pid: clientPid, uid: NOBODY, user: 'nobody' });
});

t.test(
  'a user whom the host has no name for has none',
  { skip: isRoot ? false : 'needs root' },
  async (t) => {
    const { socket } = await connectedAs(t, 3_999_999);
    t.match(await new PeerReader(new HostExec()).credentialsOf(descriptorOf(socket)), {
      uid: 3_999_999,
      user: null,
    });
  },
);

t.test('the connection can be used afterwards', async (t) => {
  const { socket } = await connectedAs(t, process.getuid?.() ?? 0);
  await new PeerReader(new HostExec()).credentialsOf(descriptorOf(socket));
  const { promise, resolve } = Promise.withResolvers<Error | null | undefined>();
  socket.write('still here\n', resolve);
  t.notOk(await promise);
});

t.test('what is no socket is no peer', async (t) => {
  await t.rejects(new PeerReader(new HostExec()).credentialsOf(0), { code: 'UNAVAILABLE' });
});

t.test('an answer that is none is an error, not a user', async (t) => {
  for (const stdout of ['', '1 2 root', 'x 0 root\n', '1 0 root\n1 0 root\n', '-1 0 root\n']) {
    const exec = {
      run: async (_program: string, _args: readonly string[], _options?: RunOptions) => ({
        exitCode: 0,
        stdout,
        stderr: '',
      }),
    };
    await t.rejects(new PeerReader(exec).credentialsOf(3), { code: 'UNAVAILABLE' }, JSON.stringify(stdout));
  }
});
