/** TLS with a libvirtd of its own. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ConnectOptions, connect, LibvirtUsageError } from '../../src/index.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { daemonMissing } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';
import { type Issued, Pki, pkiMissing } from './pki.ts';
import { type Listening, startListeningDaemon } from './support.ts';

const ONCE: ConnectOptions = { reconnect: false };

interface Lab extends Listening {
  pki: Pki;
  client: Issued;
  /** Options that let the daemon in, and us. */
  tls: { ca: string; cert: string; key: string };
  uri(driver: string, path: string): string;
}

async function openLab(t: Test): Promise<Lab> {
  const pki = await Pki.create(t);
  const server = await pki.issue('nlt-server', { names: 'DNS:localhost' });
  const client = await pki.issue('nlt-client');
  const listening = await startListeningDaemon(t, { ca: pki.ca, server });
  const uri = (driver: string, path: string) => `${driver}+tls://localhost:${listening.tlsPort}/${path}`;
  return { ...listening, pki, client, tls: { ca: pki.ca, ...client }, uri };
}

const skip = pkiMissing() || daemonMissing();
const lab = skip === false ? await openLab(t) : null;

function test(name: string, body: (t: Test, lab: Lab) => Promise<void>): void {
  void t.test(name, { skip }, (t) => body(t, lab!));
}

test('with certificates that fit, both drivers answer, and events come', async (t, { tls: own, uri }) => {
  await using test = await connect(uri('test', 'default'), { ...ONCE, tls: own });
  t.match(
    (await test.listAllDomains()).map(({ name }) => name),
    ['test'],
  );
  const events: number[] = [];
  await test.onEvent('domain', 'lifecycle', ({ event }) => events.push(event));
  await (await test.domainLookupByName('test')).suspend();
  await until(() => events.length > 0, 'the event has come');
  await using qemu = await connect(uri('qemu', 'system'), { ...ONCE, tls: own });
  t.same(await qemu.listAllDomains(), []);
  t.match(await qemu.call('connectIsSecure', undefined), { secure: 1 });
});

test('PEM itself does as well as a path', async (t, { tls: own, uri }) => {
  const pem = {
    ca: readFileSync(own.ca),
    cert: readFileSync(own.cert, 'utf8'),
    key: readFileSync(own.key, 'utf8'),
  };
  await using connection = await connect(uri('test', 'default'), { ...ONCE, tls: pem });
  t.equal(connection.state, 'connected');
});

test('pkipath names a folder that has all of them', async (t, { pki, tls: own, uri }) => {
  const dir = join(pki.dir, 'folder');
  mkdirSync(dir);
  copyFileSync(own.ca, join(dir, 'cacert.pem'));
  copyFileSync(own.cert, join(dir, 'clientcert.pem'));
  const target = `${uri('test', 'default')}?pkipath=${dir}`;
  const missing = await failureOf(connect(target, ONCE));
  t.ok(missing instanceof LibvirtUsageError);
  t.match(missing.message, `${dir}/clientkey.pem`);
  copyFileSync(own.key, join(dir, 'clientkey.pem'));
  await using connection = await connect(target, ONCE);
  t.equal(connection.state, 'connected');
});

test('a server of another CA is not trusted, and the error names the file', async (t, { tls: own, uri }) => {
  const other = await Pki.create(t, 'nlt other CA');
  const error = await failureOf(connect(uri('test', 'default'), { ...ONCE, tls: { ...own, ca: other.ca } }));
  t.match(error, { kind: 'auth', message: `its certificate is not signed by ${other.ca}` });
});

test('a server with another name is not trusted, and the error says which it has', async (t, {
  tls: own,
  tlsPort,
}) => {
  const error = await failureOf(connect(`test://127.0.0.1:${tlsPort}/default`, { ...ONCE, tls: own }));
  t.match(error, { kind: 'auth', message: /not for 127\.0\.0\.1, but for DNS:localhost/ });
});

test('no_verify takes any server, unless the caller says otherwise', async (t, { tls: own, tlsPort }) => {
  const target = `test://127.0.0.1:${tlsPort}/default?no_verify=1`;
  const { ca: _, ...identity } = own;
  await using connection = await connect(target, { ...ONCE, tls: identity });
  t.equal(connection.state, 'connected');
  t.equal(await kindOf(connect(target, { ...ONCE, tls: { ...own, verify: true } })), 'auth');
});

test('a client without certificate is refused, and told so', async (t, { tls: own, uri }) => {
  const error = await failureOf(connect(uri('test', 'default'), { ...ONCE, tls: { ca: own.ca } }));
  t.match(error, { kind: 'auth', message: /want a client certificate, and none was found/ });
});

test('a client certificate of another CA, or an expired one, is refused', async (t, {
  pki,
  tls: own,
  uri,
}) => {
  const other = await (await Pki.create(t, 'nlt other CA')).issue('nlt-client');
  const strange = await failureOf(
    connect(uri('test', 'default'), { ...ONCE, tls: { ca: own.ca, ...other } }),
  );
  t.match(strange, { kind: 'auth', message: `did not accept the client certificate ${other.cert}` });
  const old = await pki.issue('nlt-client', { days: -1 });
  const expired = await failureOf(connect(uri('test', 'default'), { ...ONCE, tls: { ca: own.ca, ...old } }));
  t.match(expired, { kind: 'auth', message: /did not accept .* which expired on/ });
});

test('a server whose certificate was revoked is not trusted', async (t, { pki, tls: own, uri }) => {
  const server = { cert: join(pki.dir, '1.pem'), key: '' };
  const crl = await pki.revoke(server);
  const error = await failureOf(connect(uri('test', 'default'), { ...ONCE, tls: { ...own, crl } }));
  t.match(error, { kind: 'auth', message: /has been revoked/ });
  const none = await pki.revoke();
  await using connection = await connect(uri('test', 'default'), { ...ONCE, tls: { ...own, crl: none } });
  t.equal(connection.state, 'connected');
});

test('a TLS connection to the TCP port, and the other way round, fail with a typed error', async (t, {
  tls: own,
  tlsPort,
  tcpPort,
}) => {
  const toTcp = await failureOf(
    connect(`test+tls://localhost:${tcpPort}/default`, { ...ONCE, tls: own, callTimeoutMs: 2_000 }),
  );
  t.match(toTcp, { name: 'LibvirtTransportError', kind: /unreachable|timeout/ });
  const toTls = await failureOf(
    connect(`test+tcp://localhost:${tlsPort}/default`, { ...ONCE, callTimeoutMs: 2_000 }),
  );
  t.match(toTls, { name: 'LibvirtTransportError', kind: /closed|protocol|timeout/ });
});

test('after the daemon was restarted the connection comes back, with a renewed certificate', async (t, {
  pki,
  tls: own,
  uri,
  daemon,
}) => {
  const renewed = join(pki.dir, 'renewed.pem');
  const key = join(pki.dir, 'renewed.key');
  copyFileSync(own.cert, renewed);
  copyFileSync(own.key, key);
  const options = { tls: { ca: own.ca, cert: renewed, key }, reconnect: { initialMs: 10, maxMs: 100 } };
  await using connection = await connect(uri('test', 'default'), options);
  const states: string[] = [];
  connection.onStateChange((state) => states.push(state));
  await daemon.stop();
  await until(() => connection.state === 'disconnected', 'the loss is noticed');
  rmSync(renewed);
  await daemon.start();
  const other = await pki.issue('nlt-client-2');
  copyFileSync(other.key, key);
  copyFileSync(other.cert, renewed);
  await until(() => connection.state === 'connected', 'the connection is back');
  t.same(states, ['disconnected', 'connected']);
  t.equal((await connection.listAllDomains()).length, 1);
});

test('virsh gets the same answer with the same certificates', async (t, { pki, tls: own, uri }) => {
  const dir = join(pki.dir, 'virsh');
  mkdirSync(dir);
  for (const [from, to] of [
    [own.ca, 'cacert.pem'],
    [own.cert, 'clientcert.pem'],
    [own.key, 'clientkey.pem'],
  ] as const)
    copyFileSync(from, join(dir, to));
  const target = `${uri('test', 'default')}?pkipath=${dir}`;
  const names = await new Promise<string>((resolve, reject) =>
    execFile('virsh', ['-c', target, 'list', '--name'], (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    ),
  );
  await using connection = await connect(target, ONCE);
  t.same(
    (await connection.listAllDomains()).map(({ name }) => name),
    names.trim().split('\n'),
  );
});
