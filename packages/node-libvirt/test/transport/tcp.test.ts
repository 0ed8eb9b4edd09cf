/** Bare TCP, with a libvirtd of its own and with servers that are none. */
import type net from 'node:net';
import t from 'tap';
import { type ConnectOptions, connect } from '../../src/index.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { daemonMissing } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';
import { Pki, pkiMissing } from './pki.ts';
import { freePort, serverThat, startListeningDaemon } from './support.ts';

const ONCE: ConnectOptions = { reconnect: false };

t.test('libvirtd answers over bare TCP', { skip: pkiMissing() || daemonMissing() }, async (t) => {
  const pki = await Pki.create(t);
  const { tcpPort } = await startListeningDaemon(t, { ca: pki.ca, server: await pki.issue('nlt-server') });
  await using test = await connect(`test+tcp://127.0.0.1:${tcpPort}/default`, ONCE);
  t.same(
    (await test.listAllDomains()).map(({ name }) => name),
    ['test'],
  );
  await using qemu = await connect(`qemu+tcp://localhost:${tcpPort}/system`, ONCE);
  t.match(await qemu.call('connectGetType', undefined), { type: 'QEMU' });
  const readOnly = await connect(`test+tcp://localhost:${tcpPort}/default`, { ...ONCE, readOnly: true });
  t.match(await failureOf((await readOnly.domainLookupByName('test')).suspend()), {
    codeName: 'VIR_ERR_OPERATION_DENIED',
  });
  await readOnly.close();
});

t.test('a port without listener and a name that nobody has are unreachable, and say why', async (t) => {
  const port = await freePort();
  const refused = await failureOf(connect(`test+tcp://127.0.0.1:${port}/default`, ONCE));
  t.match(refused, { kind: 'unreachable', message: `127.0.0.1:${port}: nobody listens there` });
  const unknown = await failureOf(connect('test+tcp://nlt.invalid/default', ONCE));
  t.match(unknown, {
    kind: 'unreachable',
    message: /^cannot connect to libvirt at nlt\.invalid:16509: the name/,
  });
});

t.test('a server that never speaks is given up after the timeout', async (t) => {
  const sockets: net.Socket[] = [];
  const port = await serverThat(t, (socket) => void sockets.push(socket.resume()));
  t.equal(
    await kindOf(connect(`test+tcp://127.0.0.1:${port}/default`, { ...ONCE, callTimeoutMs: 50 })),
    'timeout',
  );
  await until(() => sockets.every((socket) => socket.destroyed), 'no connection is left');
});

t.test('a server that hangs up, or speaks something else, is found out', async (t) => {
  const closing = await serverThat(t, (socket) => socket.destroy());
  t.equal(await kindOf(connect(`test+tcp://127.0.0.1:${closing}/default`, ONCE)), 'closed');
  const http = await serverThat(t, (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
  t.equal(await kindOf(connect(`test+tcp://127.0.0.1:${http}/default`, ONCE)), 'protocol');
});

t.test('an attempt can be aborted before it has begun', async (t) => {
  const port = await serverThat(t, () => t.fail('nothing is to be opened'));
  const options = { ...ONCE, signal: AbortSignal.abort() };
  t.equal(await kindOf(connect(`test+tcp://127.0.0.1:${port}/default`, options)), 'aborted');
  t.equal(await kindOf(connect(`test+tls://127.0.0.1:${port}/default?no_verify=1`, options)), 'aborted');
  t.equal(await kindOf(connect('test+ssh://127.0.0.1/default', options)), 'aborted');
});
