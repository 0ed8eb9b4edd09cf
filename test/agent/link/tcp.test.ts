/** TCP connections to where the address of a scheduler points. */
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import t from 'tap';
import { connectTcp, hostOf } from '../../../src/agent/link/tcp.ts';

t.test('an address is a name, an IPv4 or an IPv6 address', async (t) => {
  for (const [host, hostname] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '[::1]'],
    ['localhost', 'localhost'],
  ] as const) {
    const server = createServer((socket) => socket.end('here'));
    t.teardown(() => server.close());
    await once(server.listen(0, host), 'listening');
    const url = new URL(`wss://${hostname}:${(server.address() as AddressInfo).port}`);
    const socket = connectTcp(url);
    t.equal(String((await once(socket, 'data'))[0]), 'here');
    t.equal(socket.timeout, 0, 'what comes later has all the time that is given to it');
    t.equal(hostOf(url.hostname), host);
    socket.destroy();
  }
});

t.test('a connection that is refused says where to', async (t) => {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  const socket = connectTcp(new URL(`ws://127.0.0.1:${port}`));
  t.match(await once(socket, 'error'), [{ code: 'ECONNREFUSED', port }]);
});
