/** TLS against servers that are not what they should be. */
import { readFileSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import t, { type Test } from 'tap';
import { type ConnectOptions, connect, LibvirtUsageError } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { type Issued, Pki, pkiMissing } from './pki.ts';
import { serverThat } from './support.ts';

interface Lab {
  pki: Pki;
  client: Issued;
  /** A good certificate for 127.0.0.1. */
  server: Issued;
  own: { ca: string; cert: string; key: string };
}

async function openLab(t: Test): Promise<Lab> {
  const pki = await Pki.create(t);
  const client = await pki.issue('nlt-client');
  const server = await pki.issue('nlt-server', { names: 'IP:127.0.0.1' });
  return { pki, client, server, own: { ca: pki.ca, ...client } };
}

/** A TLS server with a certificate, which does what it is told once a client is through the handshake. */
async function tlsServerThat(
  t: Test,
  issued: Issued,
  serve: (socket: tls.TLSSocket) => void,
): Promise<number> {
  const secureContext = tls.createSecureContext({
    cert: readFileSync(issued.cert),
    key: readFileSync(issued.key),
  });
  return serverThat(t, (socket) => {
    const secure = new tls.TLSSocket(socket, { isServer: true, secureContext });
    secure.on('error', () => secure.destroy());
    secure.once('secure', () => serve(secure));
  });
}

const skip = pkiMissing();
const lab = skip === false ? await openLab(t) : null;

function test(name: string, body: (t: Test, lab: Lab) => Promise<void>): void {
  void t.test(name, { skip }, (t) => body(t, lab!));
}

/** Connects to a port of 127.0.0.1 with good certificates. @returns What it failed with. */
function attempt(port: number, options: ConnectOptions = {}): Promise<Error> {
  const uri = `test+tls://127.0.0.1:${port}/default`;
  return failureOf(connect(uri, { reconnect: false, ...(lab === null ? {} : { tls: lab.own }), ...options }));
}

test('an expired server certificate is not trusted', async (t, { pki }) => {
  const expired = await pki.issue('nlt-server', { names: 'IP:127.0.0.1', days: -1 });
  const port = await tlsServerThat(t, expired, (socket) => socket.write('\x01'));
  t.match(await attempt(port), { kind: 'auth', message: /has expired/ });
});

test('a server that never speaks is given up after the timeout, and at once on abort', async (t) => {
  const sockets: net.Socket[] = [];
  const port = await serverThat(t, (socket) => void sockets.push(socket.resume()));
  t.match(await attempt(port, { callTimeoutMs: 100 }), { kind: 'timeout', message: /within 100 ms/ });
  const aborting = new AbortController();
  const failure = attempt(port, { signal: aborting.signal });
  await until(() => sockets.length === 2, 'the second attempt has arrived');
  aborting.abort();
  t.match(await failure, { kind: 'aborted' });
  await until(() => sockets.every((socket) => socket.destroyed), 'no connection is left');
});

test('a server that never lets us in is given up after the timeout', async (t, { server }) => {
  const port = await tlsServerThat(t, server, () => {});
  t.match(await attempt(port, { callTimeoutMs: 300 }), { kind: 'timeout' });
});

test('a server that hangs up says by the moment why', async (t, { client, server }) => {
  const early = await serverThat(t, (socket) => socket.once('data', () => socket.destroy()));
  t.match(await attempt(early), { kind: 'unreachable', message: /hung up during the TLS handshake/ });
  const late = await tlsServerThat(t, server, (socket) => socket.end());
  t.match(await attempt(late), {
    kind: 'auth',
    message: `did not accept the client certificate ${client.cert}`,
  });
  const broken = await tlsServerThat(t, server, (socket) => socket.destroy());
  t.match(await attempt(broken), { kind: 'auth' });
});

test('a server that says something else is found out', async (t, { server }) => {
  const wrong = await tlsServerThat(t, server, (socket) => socket.write('\x02'));
  t.match(await attempt(wrong), { kind: 'protocol', message: /first byte was 2/ });
  const other = await serverThat(t, (socket) => socket.write('SSH-2.0-x\r\n'));
  t.match(await attempt(other), { kind: 'unreachable', message: /speaks no TLS/ });
  const eager = await tlsServerThat(t, server, (socket) => socket.write(Buffer.from([1, 0, 0, 0, 1])));
  t.match(await attempt(eager), { kind: 'protocol' });
});

test('a server that knows only TLS 1.1 is not spoken to', async (t, { server }) => {
  const secureContext = tls.createSecureContext({
    cert: readFileSync(server.cert),
    key: readFileSync(server.key),
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1.1',
    ciphers: 'DEFAULT@SECLEVEL=0',
  });
  const port = await serverThat(t, (socket) => {
    new tls.TLSSocket(socket, { isServer: true, secureContext }).on('error', () => socket.destroy());
  });
  t.match(await attempt(port), { kind: 'unreachable', message: /no TLS that Node\.js speaks/ });
});

test('files that are missing, of another kind or of another key are usage errors that name them', async (t, {
  pki,
  client,
  server,
  own,
}) => {
  const mixed = { ...own, key: server.key };
  const text = join(pki.dir, 'text');
  writeFileSync(text, 'nothing');
  for (const [options, words] of [
    [{ ...own, ca: '/nonexistent/nlt-ca' }, 'cannot read the CA certificate /nonexistent/nlt-ca'],
    [{ ...own, cert: '/nonexistent/nlt' }, 'cannot read the client certificate /nonexistent/nlt'],
    [{ ...own, ca: text }, `${text} holds no certificate`],
    [{ ...own, key: text }, `${text} holds no unencrypted private key`],
    [mixed, `${server.key} is not the key of the certificate ${client.cert}`],
    [{ cert: own.cert, key: own.key }, 'tls.ca is missing'],
    [{ ca: own.ca, cert: own.cert }, 'tls.cert and tls.key belong together'],
    [{ ca: 7 as unknown as string }, 'tls.ca is a path or PEM, got number'],
    [{ ca: '' }, 'tls.ca is a path or PEM'],
  ] as const) {
    const error = await attempt(1, { tls: options });
    t.ok(error instanceof LibvirtUsageError, words);
    t.match(error.message, words);
  }
});
