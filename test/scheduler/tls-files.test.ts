/** TLS by files of the operator's own authority, on both sides. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/scheduler/clock.ts';
import { startScheduler } from '../../src/scheduler/scheduler.ts';
import { BEARER, newKeys, schedulerIs, type SecureLab, secureLab, startHost } from './support/secure-lab.ts';

/** The authority of a lab stands for that of an operator. */
async function byFiles(t: Test, withClients: boolean) {
  const lab = await secureLab(t);
  const folder = mkdtempSync(join(tmpdir(), 'gtls-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const write = (name: string, content: string) => {
    const path = join(folder, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  };
  const own = lab.authority().issueForScheduler(['localhost']);
  const [cert, key, ca] = [write('cert.pem', own.cert), write('key.pem', own.key), write('ca.pem', lab.ca)];
  const scheduler = await startScheduler(
    {
      listen: { host: '127.0.0.1', port: 0 },
      stateDir: ':memory:',
      token: BEARER,
      heartbeatSeconds: 1,
      tls: { kind: 'files', cert, key, clientCa: withClients ? ca : null },
    },
    { clock: systemClock, logger: pino({ level: 'silent' }) },
  );
  t.teardown(() => scheduler.close());
  const url = `wss://localhost:${scheduler.address.port}`;
  return { lab, write, ca, url };
}

function certificateOf(lab: SecureLab, nodeId: string) {
  const { publicKey, key } = newKeys();
  return { cert: lab.authority().issueForNode(nodeId, publicKey).pem, key };
}

t.test('a node shows the certificate of its configuration', async (t) => {
  const { lab, write, ca, url } = await byFiles(t, true);
  const [certFile, keyFile] = [write('node.pem', ''), write('node.key', '')];
  const host = await startHost(
    t,
    `url = "${url}"\ncaFile = "${ca}"\ncertFile = "${certFile}"\nkeyFile = "${keyFile}"`,
  );
  await schedulerIs(host, 'unavailable', /none was shown/);
  write('node.pem', 'nonsense');
  write('node.key', 'nonsense');
  await schedulerIs(host, 'unavailable', /PEM/);
  const other = certificateOf(lab, '3f7d0c52-90c5-4d6a-8a8e-6f3f4c1a2b3c');
  write('node.key', other.key);
  write('node.pem', other.cert);
  await schedulerIs(host, 'unavailable', /the certificate of node 3f7d0c52/);
  const own = certificateOf(lab, host.nodeId);
  write('node.key', own.key);
  write('node.pem', own.cert);
  await schedulerIs(host, 'ok', /connected/);
});

t.test('a bearer token over TLS needs the authority that is trusted', async (t) => {
  const { write, ca, url } = await byFiles(t, false);
  const tokenFile = write('token', BEARER);
  const trusting = await startHost(t, `url = "${url}"\ntokenFile = "${tokenFile}"\ncaFile = "${ca}"`);
  await schedulerIs(trusting, 'ok', /connected/);
  const careful = await startHost(t, `url = "${url}"\ntokenFile = "${tokenFile}"`);
  await schedulerIs(careful, 'unavailable', /an authority that is not trusted here/);
});

t.test('where certificates are asked for, a bearer token is none', async (t) => {
  const { write, ca, url } = await byFiles(t, true);
  const tokenFile = write('token', BEARER);
  const host = await startHost(t, `url = "${url}"\ntokenFile = "${tokenFile}"\ncaFile = "${ca}"`);
  await schedulerIs(host, 'unavailable', /the scheduler refused: A node's certificate is needed/);
});

t.test('a node that waits for its enrolment says so', async (t) => {
  const host = await startHost(t, 'url = "wss://localhost:1"');
  await schedulerIs(host, 'unavailable', /this node is not enrolled/);
});

t.test('a file that is not there keeps the scheduler from starting', async (t) => {
  const options = {
    listen: { host: '127.0.0.1', port: 0 },
    stateDir: ':memory:',
    token: BEARER,
    heartbeatSeconds: 1,
    tls: { kind: 'files', cert: '/none', key: '/none', clientCa: null } as const,
  };
  const host = { clock: systemClock, logger: pino({ level: 'silent' }) };
  await t.rejects(startScheduler(options, host), { code: 'INVALID_ARGUMENT', message: /Cannot read \/none/ });
});
