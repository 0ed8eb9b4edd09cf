/** Who gets in at a scheduler that is its own authority, and who does not. */
import { randomUUID, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import t, { type Test } from 'tap';
import type { Clock } from '../../src/scheduler/clock.ts';
import { systemClock } from '../../src/scheduler/clock.ts';
import { eventually } from './support/eventually.ts';
import {
  BEARER,
  type Keys,
  newKeys,
  requestOf,
  type SecureLab,
  secretOf,
  secureLab,
  tryHello,
} from './support/secure-lab.ts';

const DAY_MS = 86_400_000;
const shifted = (ms: number): Clock => ({ ...systemClock, now: () => systemClock.now() + ms });

interface Enrolled extends Keys {
  nodeId: string;
  cert: string;
}

async function enrolled(lab: SecureLab, nodeId: string = randomUUID()): Promise<Enrolled> {
  const keys = newKeys();
  const secret = secretOf(await lab.token());
  const { status, body } = await lab.enrol({ secret, nodeId, request: requestOf(nodeId, keys) });
  if (status !== 200) throw new Error(JSON.stringify(body));
  return { ...keys, nodeId, cert: body.certificate };
}

const shown = ({ nodeId, cert, key }: Enrolled) => ({ nodeId, cert, key });

t.test('a node that has enrolled is welcome, and its certificate says what it is for', async (t) => {
  const lab = await secureLab(t);
  const node = await enrolled(lab);
  const tried = await tryHello(lab, shown(node));
  t.ok(tried.welcomed);
  tried.socket.terminate();
  const certificate = new X509Certificate(node.cert);
  t.equal(certificate.subjectAltName, `URI:berth:node:${node.nodeId}`);
  t.same(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2'], 'for clients alone');
  t.notOk(certificate.ca);
  const backdatedMs = Date.now() - Date.parse(certificate.validFrom);
  t.ok(backdatedMs >= 5 * 60_000 - 1_000, 'a node whose clock is behind by minutes takes it');
});

/** Each shows something that does not get it in. */
const ATTACKS: [
  what: string,
  show: (
    lab: SecureLab,
    t: Test,
  ) => Promise<{ nodeId: string; cert?: string; key?: string; bearer?: string }>,
  said: RegExp,
][] = [
  ['shows nothing', async () => ({ nodeId: randomUUID() }), /none was shown/],
  [
    'shows the bearer token in place of a certificate',
    async () => ({ nodeId: randomUUID(), bearer: BEARER }),
    /none was shown/,
  ],
  [
    'has a certificate of another authority of the same name',
    async (_lab, t) => shown(await enrolled(await secureLab(t))),
    /not in order/,
  ],
  [
    'has a certificate that has run out',
    async (lab) => issuedBy(lab, shifted(-2 * DAY_MS)),
    /not valid now: it is valid from .* to .*, and the scheduler's clock says 20/,
  ],
  [
    'has a certificate of tomorrow',
    async (lab) => issuedBy(lab, shifted(DAY_MS)),
    /not valid now: .*the scheduler's clock says 20/,
  ],
  [
    'has a certificate that the authority signed and the scheduler does not know',
    async (lab) => issuedBy(lab, systemClock),
    /was not made here/,
  ],
  [
    "has the scheduler's own kind of certificate",
    async (lab) => ({ nodeId: randomUUID(), ...lab.authority().issueForScheduler(['localhost']) }),
    /not in order/,
  ],
  [
    'has a certificate that it signed itself as an authority would',
    async (lab, t) => {
      const other = await secureLab(t);
      const nodeId = randomUUID();
      const keys = newKeys();
      const { pem } = other.authority().issueForNode(nodeId, keys.publicKey);
      return { nodeId, cert: pem + other.ca + lab.ca, key: keys.key };
    },
    /not in order/,
  ],
];

async function issuedBy(lab: SecureLab, clock: Clock) {
  const nodeId = randomUUID();
  const keys = newKeys();
  const { pem } = lab.authority(clock).issueForNode(nodeId, keys.publicKey);
  return { nodeId, cert: pem, key: keys.key };
}

for (const [what, show, said] of ATTACKS) {
  t.test(`one who ${what} is turned away, and told why`, async (t) => {
    const lab = await secureLab(t);
    const tried = await tryHello(lab, await show(lab, t));
    t.match(tried, { welcomed: false, status: 401, message: said });
    t.same((await lab.ask('GET', '/v1/nodes')).body.nodes, []);
  });
}

t.test('who comes back proves anew who he is: no session is resumed', async (t) => {
  const lab = await secureLab(t);
  const { cert, key } = await enrolled(lab);
  const { port } = lab.scheduler.address;
  const begin = (session?: Buffer) => {
    const socket = connect({ port, host: 'localhost', ca: lab.ca, cert, key, ...(session && { session }) });
    t.teardown(() => socket.destroy());
    return socket;
  };
  const [session] = (await once(begin(), 'session')) as [Buffer];
  const again = begin(session);
  await once(again, 'secureConnect');
  t.equal(again.isSessionReused(), false);
});

t.test("a node's certificate speaks for no other node", async (t) => {
  const lab = await secureLab(t);
  const [node, victim] = [await enrolled(lab), await enrolled(lab)];
  const tried = await tryHello(lab, { ...shown(node), nodeId: victim.nodeId });
  t.match(tried, { welcomed: false, closeCode: 4004, message: /is of node .*, and the certificate of node/ });
  t.same((await lab.ask('GET', '/v1/nodes')).body.nodes, []);
});

t.test(
  'a token is good once: for the same key again, since an answer may be lost, and for no other',
  async (t) => {
    const lab = await secureLab(t);
    const secret = secretOf(await lab.token());
    const nodeId = randomUUID();
    const asked = { secret, nodeId, request: requestOf(nodeId, newKeys()) };
    const first = await lab.enrol(asked);
    t.equal(first.status, 200);
    t.same(await lab.enrol(asked), first, 'the same request has the same answer');
    const again = { secret, nodeId, request: requestOf(nodeId, newKeys()) };
    t.match(await lab.enrol(again), { status: 403, body: { error: { message: /used already/ } } });
    const other = randomUUID();
    const replayed = { secret, nodeId: other, request: requestOf(other, newKeys()) };
    t.match(await lab.enrol(replayed), { status: 403, body: { error: { message: /used already/ } } });
    await lab.restart();
    t.match(await lab.enrol(replayed), { status: 403 }, 'also after a restart');
  },
);

t.test('a token is good for its time', async (t) => {
  let laterMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + laterMs };
  const lab = await secureLab(t, { clock });
  const secret = secretOf(await lab.token({ ttlSeconds: 60 }));
  laterMs = 61_000;
  const nodeId = randomUUID();
  t.match(await lab.enrol({ secret, nodeId, request: requestOf(nodeId, newKeys()) }), {
    status: 403,
    body: { error: { message: /was good until .*, and the scheduler's clock says/ } },
  });
});

t.test('a token that names no node takes the place of none that is known', async (t) => {
  const lab = await secureLab(t);
  const node = await enrolled(lab);
  const thief = newKeys();
  const request = requestOf(node.nodeId, thief);
  const unbound = { secret: secretOf(await lab.token()), nodeId: node.nodeId, request };
  t.match(await lab.enrol(unbound), { status: 403, body: { error: { message: /is known already/ } } });
  const bound = secretOf(await lab.token({ node: node.nodeId }));
  const other = randomUUID();
  t.match(await lab.enrol({ secret: bound, nodeId: other, request: requestOf(other, thief) }), {
    status: 403,
    body: { error: { message: /for another node/ } },
  });
  t.match(await lab.enrol({ ...unbound, secret: bound }), { status: 200 }, 'the operator has named it');
});

t.test('what is no token and no request is refused, and takes nothing', async (t) => {
  const lab = await secureLab(t);
  const nodeId = randomUUID();
  const request = requestOf(nodeId, newKeys());
  const secret = secretOf(await lab.token());
  for (const [body, status] of [
    [{ secret: 'A'.repeat(43), nodeId, request }, 403],
    [{ secret: '', nodeId, request }, 400],
    [{ secret, nodeId, request: 'AAAA' }, 400],
    [{ secret, nodeId: randomUUID(), request }, 400],
    [{ secret, nodeId: '../../etc', request }, 400],
    [{ secret, nodeId, request: 'A'.repeat(10_000) }, 400],
    [{ secret, nodeId, request, more: 1 }, 400],
  ] as const) {
    t.equal((await lab.enrol(body)).status, status, JSON.stringify(body).slice(0, 100));
  }
  t.equal((await lab.enrol({ secret, nodeId, request })).status, 200, 'the token is still good');
});

t.test('without the bearer token nobody makes tokens or revokes', async (t) => {
  const lab = await secureLab(t);
  t.equal((await lab.ask('POST', '/v1/enrolment-tokens', {}, null)).status, 401);
  t.equal((await lab.ask('POST', '/v1/enrolment-tokens', {}, 'wrong-wrong-wrong')).status, 401);
  t.equal((await lab.ask('POST', `/v1/nodes/${randomUUID()}/revoke`, {}, null)).status, 401);
  t.equal((await lab.ask('GET', '/v1/nodes', undefined, null)).status, 401);
});

t.test('revocation closes the link, and no certificate of before opens another', async (t) => {
  const lab = await secureLab(t);
  const node = await enrolled(lab);
  const tried = await tryHello(lab, shown(node));
  t.match(await lab.ask('POST', `/v1/nodes/${node.nodeId}/revoke`, {}), {
    status: 200,
    body: { revoked: 1 },
  });
  await eventually(() => tried.closeCode !== null);
  t.equal(tried.closeCode, 4005);
  t.match(await tryHello(lab, shown(node)), { status: 401, message: /was revoked at 20/ });
  await lab.restart();
  t.match(
    await tryHello(lab, shown(node)),
    { status: 401, message: /was revoked at 20/ },
    'also after a restart',
  );
  const secret = secretOf(await lab.token({ node: node.nodeId }));
  const keys = newKeys();
  const { body } = await lab.enrol({ secret, nodeId: node.nodeId, request: requestOf(node.nodeId, keys) });
  const back = await tryHello(lab, { nodeId: node.nodeId, cert: body.certificate, key: keys.key });
  t.ok(back.welcomed, 'a token of the operator brings it back');
  back.socket.terminate();
});

t.test('a renewal is for the node of the link alone, and only by certificate', async (t) => {
  const lab = await secureLab(t);
  const [node, victim] = [await enrolled(lab), await enrolled(lab)];
  const { socket } = await tryHello(lab, shown(node));
  const answers: { id: string; result?: { certificate: string }; error?: { message: string } }[] = [];
  socket.on('message', (data) => answers.push(JSON.parse(String(data))));
  const renew = async (id: string, request: string) => {
    socket.send(JSON.stringify({ jsonrpc: '2.0', id, method: 'identity.renew', params: { request } }));
    return eventually(() => answers.find((answer) => answer.id === id));
  };
  t.match(await renew('a', requestOf(victim.nodeId, newKeys())), { error: { message: /is not for node/ } });
  const { result } = await renew('b', requestOf(node.nodeId, newKeys()));
  t.match(new X509Certificate(result?.certificate ?? '').subjectAltName, node.nodeId);
  socket.terminate();
});

t.test('no secret of a token and no key is in the database or the log of the scheduler', async (t) => {
  const lab = await secureLab(t);
  const token = await lab.token();
  const secret = secretOf(token);
  const nodeId = randomUUID();
  const keys = newKeys();
  await lab.enrol({ secret, nodeId, request: requestOf(nodeId, keys) });
  await lab.enrol({ secret: `${'B'.repeat(42)}A`, nodeId, request: requestOf(nodeId, keys) });
  const caKey = readFileSync(join(lab.stateDir, 'ca/ca.key'), 'utf8').split('\n')[1] as string;
  const files = readdirSync(lab.stateDir).filter((name) => name.startsWith('scheduler.sqlite'));
  t.ok(files.length > 0);
  for (const hidden of [secret, token, caKey, keys.key.split('\n')[1] as string, BEARER]) {
    t.notMatch(lab.logged.join('\n'), hidden);
    for (const name of files) t.notOk(readFileSync(join(lab.stateDir, name)).includes(hidden), name);
  }
});
