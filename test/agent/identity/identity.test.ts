/** The node's side of trust: enrolment, renewal, and schedulers that are not who they say, over real TLS. */
import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { once } from 'node:events';
import { createServer, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { pino } from 'pino';
import { IdentityFolder } from '../../../src/agent/identity/folder.ts';
import { Identity } from '../../../src/agent/identity/identity.ts';
import type { Dial } from '../../../src/agent/link/credentials.ts';
import { writeToken } from '../../../src/model/enrolment.ts';
import { systemClock } from '../../../src/scheduler/clock.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import {
  call,
  type Host,
  newKeys,
  requestOf,
  schedulerIs,
  type SecureLab,
  secretOf,
  secureLab,
  startHost,
} from '../../scheduler/support/secure-lab.ts';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const shifted = (ms: number) => ({
  ...systemClock,
  now: () => systemClock.now() + ms,
  monotonicMs: () => performance.now(),
});
const fileOf = (host: Host, name: string) => join(host.folder, 'identity', name);

async function enrolledHost(t: Test, lab: SecureLab): Promise<Host> {
  const host = await startHost(t);
  await call(host, 'node.enrol', { token: await lab.token() });
  await schedulerIs(host, 'ok', /connected/);
  return host;
}

t.test(
  'a node enrols while it runs, links by its certificate, and is named so by the scheduler',
  async (t) => {
    const lab = await secureLab(t);
    const host = await startHost(t);
    t.match(await call(host, 'node.identity'), { enrolled: false, serial: null });
    t.match(await call(host, 'node.status'), { scheduler: { state: 'ok', reason: 'none configured' } });
    t.match(await call(host, 'node.enrol', { token: await lab.token() }), {
      enrolled: true,
      scheduler: `wss://${lab.host}`,
      authority: lab.authority().digest,
    });
    await schedulerIs(host, 'ok', /connected/);
    t.match((await lab.ask('GET', '/v1/nodes')).body.nodes, [{ id: host.nodeId, connected: true }]);
    await host.restart();
    await schedulerIs(host, 'ok', /connected/);
  },
);

t.test('what is asked over the link has the scheduler by its certificate in the audit log', async (t) => {
  const lab = await secureLab(t);
  const host = await enrolledHost(t, lab);
  const params = { spec: { name: 'lan', cidr: '10.80.0.0/24' } };
  const asked = await lab.ask('POST', `/v1/nodes/${host.nodeId}/call`, { method: 'network.create', params });
  t.equal(asked.status, 200);
  const { entries } = await call(host, 'audit.list');
  const entry = entries.find(({ method }: { method: string }) => method === 'network.create');
  t.match(entry, { who: { via: 'link', name: `localhost at wss://${lab.host}` } });
});

t.test('the key is in a file for its owner alone, and nowhere else', async (t) => {
  const lab = await secureLab(t);
  const host = await startHost(t);
  const token = await lab.token();
  await call(host, 'node.enrol', { token });
  await schedulerIs(host, 'ok', /connected/);
  t.equal(statSync(join(host.folder, 'identity')).mode & 0o777, 0o700);
  for (const name of readdirSync(join(host.folder, 'identity'))) {
    t.equal(statSync(fileOf(host, name)).mode & 0o777, 0o600, name);
  }
  const key = readFileSync(fileOf(host, 'current.pem'), 'utf8').split('\n')[1] as string;
  host.agent.services.store.db.checkpoint();
  const database = readFileSync(join(host.folder, 'berth.sqlite'));
  for (const hidden of [key, token, secretOf(token)]) {
    t.notOk(database.includes(hidden), 'not in the database');
    t.notMatch(host.logged.join('\n'), hidden);
    t.notMatch(lab.logged.join('\n'), hidden, 'not at the scheduler either');
  }
});

t.test('a token in a file enrols the node at its start, once, and may stay there', async (t) => {
  const lab = await secureLab(t);
  const tokenFile = join(t.testdir({}), 'token');
  writeFileSync(tokenFile, await lab.token());
  const host = await startHost(t, `enrolTokenFile = "${tokenFile}"`);
  await schedulerIs(host, 'ok', /connected/);
  const { serial } = await call(host, 'node.identity');
  await host.restart();
  await schedulerIs(host, 'ok', /connected/);
  t.equal((await call(host, 'node.identity')).serial, serial);
  t.notMatch(host.logged.join('\n'), /could not be enrolled|is not enrolled yet/);
});

t.test('a token that is not good is told in the status, and nothing is kept of it', async (t) => {
  const lab = await secureLab(t);
  const token = await lab.token();
  await enrolledWith(t, token);
  const host = await startHost(t);
  await t.rejects(call(host, 'node.enrol', { token }), {
    code: 'PERMISSION_DENIED',
    message: /used already/,
  });
  await schedulerIs(host, 'unavailable', /not enrolled: .*used already/);
  t.notOk(existsSync(fileOf(host, 'pending.json')));
  for (const junk of [
    '',
    'berth1.',
    'berth1.e30',
    'x'.repeat(4_000),
    token.slice(0, -9),
    `berth1.${'A'.repeat(300)}`,
  ]) {
    const error = await call(host, 'node.enrol', { token: junk }).then(
      () => null,
      (thrown: Error) => thrown,
    );
    t.match(error, { code: 'INVALID_ARGUMENT' }, junk.slice(0, 20));
    t.notMatch(JSON.stringify(error), secretOf(token).slice(0, 20));
  }
});

async function enrolledWith(t: Test, token: string): Promise<Host> {
  const host = await startHost(t);
  await call(host, 'node.enrol', { token });
  return host;
}

/** A server that has a certificate of the lab's own kind, and keeps what it is told. */
async function impostor(t: Test, identity: { cert: string; key: string; ca?: string }) {
  const heard: Buffer[] = [];
  const server = createServer({ ...identity, minVersion: 'TLSv1.3' }, (socket: TLSSocket) => {
    socket.on('data', (chunk: Buffer) => heard.push(chunk));
    socket.on('error', () => undefined);
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return { url: `wss://localhost:${(server.address() as AddressInfo).port}`, heard };
}

t.test('another scheduler than the one that made the token is told nothing', async (t) => {
  const lab = await secureLab(t);
  const other = await secureLab(t);
  const token = await lab.token();
  const fake = await impostor(t, other.authority().issueForScheduler(['localhost']));
  const turned = writeToken({ url: fake.url, authority: lab.authority().digest, secret: secretOf(token) });
  const host = await startHost(t);
  await t.rejects(call(host, 'node.enrol', { token: turned }), {
    code: 'PERMISSION_DENIED',
    message: /not the one/,
  });
  t.same(fake.heard, []);
  // It may send the certificate of the real authority along; its own is not by that.
  const { cert, key } = other.authority().issueForScheduler(['localhost']);
  const bold = await impostor(t, { cert: cert + lab.ca, key });
  const again = writeToken({ url: bold.url, authority: lab.authority().digest, secret: secretOf(token) });
  await t.rejects(call(host, 'node.enrol', { token: again }));
  t.notMatch(Buffer.concat(bold.heard).toString(), secretOf(token));
});

t.test("a node's certificate does not make it a scheduler", async (t) => {
  const lab = await secureLab(t);
  const keys = newKeys();
  const { pem } = lab.authority().issueForNode('3f7d0c52-90c5-4d6a-8a8e-6f3f4c1a2b3c', keys.publicKey);
  const fake = await impostor(t, { cert: pem + lab.ca, key: keys.key });
  const host = await startHost(t);
  const token = writeToken({
    url: fake.url,
    authority: lab.authority().digest,
    secret: secretOf(await lab.token()),
  });
  await t.rejects(call(host, 'node.enrol', { token }), { message: /none of a server|another name/ });
  t.notMatch(Buffer.concat(fake.heard).toString(), secretOf(token));
});

t.test(
  'a scheduler by another authority, name or time is not linked to, and the status says why',
  async (t) => {
    const lab = await secureLab(t);
    const host = await enrolledHost(t, lab);
    await lab.restart({ hosts: ['elsewhere.example'] });
    await schedulerIs(host, 'unavailable', /for another name than the address has/);
    await lab.restart({ hosts: ['localhost'], clock: shifted(-200 * DAY_MS) });
    await schedulerIs(
      host,
      'unavailable',
      /has run out, by this node's clock .*; the scheduler's clock says 20.*Z, this node's 20.*Z/,
    );
    await lab.restart({ clock: shifted(DAY_MS) });
    await schedulerIs(
      host,
      'unavailable',
      /is not valid yet, by this node's clock .*; the scheduler's clock says/,
    );
    await lab.restart({ clock: shifted(0) });
    await schedulerIs(host, 'ok', /connected/);
  },
);

t.test('the certificate is renewed before it runs out, over the link, by a key of its own', async (t) => {
  const lab = await secureLab(t, { lifetimeMs: 6_000 });
  const host = await enrolledHost(t, lab);
  const first = await call(host, 'node.identity');
  const keyBefore = readFileSync(fileOf(host, 'current.pem'), 'utf8');
  await eventually(async () => {
    const { serial, renewing } = await call(host, 'node.identity');
    return serial !== first.serial && !renewing;
  });
  await schedulerIs(host, 'ok', /connected/);
  t.not(readFileSync(fileOf(host, 'current.pem'), 'utf8').slice(0, 200), keyBefore.slice(0, 200));
  t.notOk(existsSync(fileOf(host, 'next.pem')));
});

t.test('a new certificate that does not work costs nothing: the one before is shown again', async (t) => {
  const lab = await secureLab(t);
  const host = await enrolledHost(t, lab);
  const { serial } = await call(host, 'node.identity');
  const keys = newKeys();
  // The scheduler does not know it, as after its database was put back from before.
  const { pem } = lab.authority().issueForNode(host.nodeId, keys.publicKey);
  await host.agent.stop();
  new IdentityFolder(host.folder).writeNext({ key: keys.key, cert: pem });
  await lab.restart();
  await host.restart().catch(() => undefined);
  await schedulerIs(host, 'ok', /connected/);
  t.match(await call(host, 'node.identity'), { serial, renewing: true });
});

/** A node with a certificate that was renewed, at a scheduler of several addresses. */
async function renewedIdentity(t: Test, lab: SecureLab, alternates: number) {
  const host = await enrolledHost(t, lab);
  await host.agent.stop();
  const { folder, nodeId } = host;
  const log = pino({ level: 'silent' });
  const make = (ms = 0) => new Identity({ stateDir: folder, nodeId, clock: shifted(ms), log, alternates });
  const files = new IdentityFolder(folder);
  const before = files.pair('current')?.cert as string;
  const keys = newKeys();
  const { pem: after } = lab.authority().issueForNode(nodeId, keys.publicKey);
  files.writeNext({ key: keys.key, cert: after });
  const shownAt = (identity: Identity, url: string | null) => {
    const dial = identity.dial(url) as Dial;
    const which = dial.tls.cert === before ? 'before' : 'after';
    return { which, ok: dial.onAccepted, refused: dial.onFailed };
  };
  return { host, identity: make(), make, files, shownAt };
}

t.test('the key before is kept until the new one has worked at every address', async (t) => {
  const { identity, files, shownAt } = await renewedIdentity(t, await secureLab(t), 1);
  const home = shownAt(identity, null);
  t.equal(home.which, 'after');
  home.ok();
  t.ok(files.pair('previous'), 'the other address has not taken it yet');
  const other = shownAt(identity, 'wss://other.example');
  t.equal(other.which, 'after');
  other.refused();
  const again = shownAt(identity, 'wss://other.example');
  t.equal(again.which, 'before');
  again.ok();
  t.ok(files.pair('previous'));
  t.equal(shownAt(identity, null).which, 'after', 'each address has its own turn');
  t.equal(shownAt(identity, 'wss://other.example').which, 'before', 'and stays with what it takes');
  again.refused();
  shownAt(identity, 'wss://other.example').ok();
  t.equal(files.pair('previous'), null);
});

t.test('an address that does not take one keeps no other from being shown it', async (t) => {
  const { identity, shownAt } = await renewedIdentity(t, await secureLab(t), 1);
  const shown = new Set<string>();
  for (let n = 0; n < 4; n++) {
    const url = n % 2 === 0 ? null : 'wss://other.example';
    const { which, refused } = shownAt(identity, url);
    shown.add(`${which} at ${url ?? 'home'}`);
    refused();
  }
  t.equal(shown.size, 4, 'both at both, though they are tried in turn');
});

t.test('with one address nothing is kept beside what has worked', async (t) => {
  const { identity, files, shownAt } = await renewedIdentity(t, await secureLab(t), 0);
  shownAt(identity, null).ok();
  t.equal(files.pair('previous'), null);
  t.ok(files.pair('current'));
});

t.test('a certificate of before that has run out is not shown any more', async (t) => {
  const { identity, make, shownAt } = await renewedIdentity(t, await secureLab(t), 1);
  shownAt(identity, null).ok();
  const later = make(400 * DAY_MS);
  for (let n = 0; n < 4; n++) {
    const { which, refused } = shownAt(later, 'wss://other.example');
    t.equal(which, 'after');
    refused();
  }
});

t.test('a renewal is asked for where the link is, for the certificate that was shown there', async (t) => {
  const lab = await secureLab(t);
  const { identity, make, files, shownAt } = await renewedIdentity(t, lab, 1);
  shownAt(identity, null).ok();
  shownAt(identity, 'wss://other.example').refused();
  shownAt(identity, 'wss://other.example').ok();
  const asked: string[] = [];
  identity.linked(async (method) => {
    asked.push(method);
    return {};
  });
  t.same(asked, [], 'it is not time yet');
  const cert = files.pair('previous')?.cert as string;
  const due = make(Date.parse(new X509Certificate(cert).validTo) - Date.now() - HOUR_MS);
  t.teardown(() => due.close());
  const first = due.dial('wss://other.example') as Dial;
  first.onFailed();
  const second = due.dial('wss://other.example') as Dial;
  t.equal(second.tls.cert, cert);
  second.onAccepted();
  due.linked(async (method) => {
    asked.push(method);
    return {};
  });
  t.same(asked, ['identity.renew']);
});

t.test('an enrolment whose answer was lost gets the same certificate with the same key', async (t) => {
  const lab = await secureLab(t);
  const host = await startHost(t);
  const token = await lab.token();
  const keys = newKeys();
  const request = requestOf(host.nodeId, keys);
  const tokenDigest = createHash('sha256').update(secretOf(token)).digest('hex');
  new IdentityFolder(host.folder).writePending({ version: 1, key: keys.key, request, tokenDigest });
  const { body } = await lab.enrol({ secret: secretOf(token), nodeId: host.nodeId, request });
  await call(host, 'node.enrol', { token });
  await schedulerIs(host, 'ok', /connected/);
  t.match(readFileSync(fileOf(host, 'current.pem'), 'utf8'), body.certificate.trim());
});

t.test('a node that was revoked is told so, and comes back by a token that names it', async (t) => {
  const lab = await secureLab(t);
  const host = await enrolledHost(t, lab);
  await lab.ask('POST', `/v1/nodes/${host.nodeId}/revoke`, {});
  await schedulerIs(host, 'unavailable', /revoked/);
  await schedulerIs(host, 'unavailable', /the scheduler refused: The certificate was revoked at/);
  await call(host, 'node.enrol', { token: await lab.token({ node: host.nodeId }) });
  await schedulerIs(host, 'ok', /connected/);
});

t.test('files of the identity that are damaged are told, and not guessed at', async (t) => {
  const lab = await secureLab(t);
  const host = await enrolledHost(t, lab);
  const whole = readFileSync(fileOf(host, 'current.pem'), 'utf8');
  for (const text of ['', 'nonsense', whole.slice(0, 300), whole.replace(/^(.{80})./s, '$1#')]) {
    writeFileSync(fileOf(host, 'current.pem'), text);
    await t.rejects(call(host, 'node.identity'), { code: 'DATA_DAMAGED' });
  }
  writeFileSync(fileOf(host, 'current.pem'), whole);
  writeFileSync(fileOf(host, 'scheduler.json'), '{"version":1,"url":"wss://x"}');
  await t.rejects(call(host, 'node.identity'), { code: 'DATA_DAMAGED' });
  await host.restart();
  await schedulerIs(host, 'unavailable', /scheduler\.json is not what was written/);
  t.match(await call(host, 'instance.list'), { instances: [] }, 'the node works on without its scheduler');
});
