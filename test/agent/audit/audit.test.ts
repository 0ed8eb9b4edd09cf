import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t, { type Test } from 'tap';
import type { AuditEntry, AuditVerdict, Principal } from '../../../src/model/audit.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { Role } from '../../../src/model/methods.ts';
import { pass } from '../link/support/linked.ts';
import { readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

const ALICE: Principal = { via: 'socket', name: 'alice', uid: 1000, pid: 77 };

function as(sim: SimAgent, method: string, params: unknown, role: Role = 'admin'): Promise<unknown> {
  const identity = { via: ALICE.via, who: async () => ALICE };
  return sim.agent.dispatcher.call(method, params, { role, identity });
}

const entriesOf = (sim: SimAgent, after = 0): AuditEntry[] =>
  sim.agent.services.store.audit.after(after, 1_000_000);
const verdictOf = (sim: SimAgent): Promise<AuditVerdict> => sim.agent.services.store.audit.verify();

/** Counts the transactions that `work` takes. */
async function commitsOf(sim: SimAgent, work: () => Promise<unknown>): Promise<number> {
  const { db } = sim.agent.services.store;
  const transaction = db.transaction.bind(db);
  let commits = 0;
  db.transaction = (body) => {
    commits++;
    return transaction(body);
  };
  await work();
  db.transaction = transaction;
  return commits;
}

t.test('each change has who, what and its operation, and the end of that', async (t) => {
  const sim = await readyAgent(t);
  const { seq } = sim.agent.services.store.audit.head();
  const answer = (await as(sim, 'instance.create', { spec: spec() })) as { operation: { id: string } };
  await sim.ended(answer.operation.id);
  t.match(entriesOf(sim, seq), [
    {
      kind: 'call',
      who: ALICE,
      method: 'instance.create',
      operation: answer.operation.id,
      outcome: 'accepted',
    },
    {
      kind: 'end',
      method: 'instance.create',
      operation: answer.operation.id,
      outcome: 'succeeded',
      code: null,
    },
  ]);
  t.match(entriesOf(sim, seq)[0]?.params, /"name":"web"/);
  t.match(entriesOf(sim)[0], { seq: 1, kind: 'begin' });
  t.match(await verdictOf(sim), { intact: true, fault: null });
});

t.test('an operation that fails or is cancelled ends so in the audit log, with its code', async (t) => {
  const sim = await readyAgent(t);
  const failing = sim.world.faults.fail('hypervisor.start', new AgentError('UNSUPPORTED', 'no such machine'));
  const failed = await sim.run('instance.create', { spec: spec('broken') });
  failing();
  t.equal(failed.state, 'failed');
  t.match(entriesOf(sim).at(-1), { kind: 'end', outcome: 'failed', code: failed.error?.code });
  const release = sim.world.faults.hang('storage.makeVolume');
  const { operation } = await sim.call('instance.create', { spec: spec('slow') });
  await as(sim, 'operation.cancel', { id: operation.id });
  release();
  await sim.ended(operation.id);
  t.match(entriesOf(sim).slice(-2), [
    { kind: 'call', who: ALICE, method: 'operation.cancel', operation: null, outcome: 'accepted' },
    { kind: 'end', operation: operation.id, outcome: 'cancelled', code: 'CANCELLED' },
  ]);
});

t.test('what the agent does by itself is there under the name of the policy', async (t) => {
  const sim = await readyAgent(t);
  sim.agent.operations.submit('image.verify', { id: 'debian' }, 'image-policy');
  t.match(
    entriesOf(sim).findLast(({ kind }) => kind === 'call'),
    {
      method: 'image.verify',
      who: { via: 'agent', name: 'image-policy' },
    },
  );
});

t.test('reads are not there; a change that is called a read is', async (t) => {
  const sim = await readyAgent(t);
  const { seq } = sim.agent.services.store.audit.head();
  await as(sim, 'node.status', {});
  await as(sim, 'instance.list', {});
  t.same(entriesOf(sim, seq), []);
  await sim.passTimeUntil(as(sim, 'node.recover', { dryRun: true }));
  t.match(entriesOf(sim, seq), [{ kind: 'call', method: 'node.recover', outcome: 'accepted' }]);
});

t.test('a repeat under its key is the first operation, and no second entry', async (t) => {
  const sim = await readyAgent(t);
  const params = { spec: spec(), key: 'once' };
  const first = await as(sim, 'instance.create', params);
  const { seq } = sim.agent.services.store.audit.head();
  t.match(await as(sim, 'instance.create', params), {
    operation: { id: (first as never)['operation']['id'] },
  });
  t.same(entriesOf(sim, seq), []);
  await t.rejects(as(sim, 'instance.create', { spec: spec('other'), key: 'once' }), { code: 'KEY_REUSED' });
  await pass(sim, 1_000);
  t.match(
    entriesOf(sim, seq).find(({ kind }) => kind === 'refusal'),
    { code: 'KEY_REUSED', who: ALICE },
  );
});

t.test('what is refused is there, too: for its role, as unknown, as wrong', async (t) => {
  const sim = await readyAgent(t);
  const { seq } = sim.agent.services.store.audit.head();
  const refused: [string, unknown, Role, string][] = [
    ['instance.delete', { id: 'web' }, 'observe', 'PERMISSION_DENIED'],
    ['node.backup', { path: '/x' }, 'operate', 'PERMISSION_DENIED'],
    ['audit.list', {}, 'operate', 'PERMISSION_DENIED'],
    ['instance.explode', { password: 'hunter2' }, 'admin', 'UNSUPPORTED'],
    ['instance.create', { spec: { userData: 'hunter2' } }, 'admin', 'INVALID_ARGUMENT'],
    ['instance.delete', { id: 'nobody' }, 'admin', 'NOT_FOUND'],
  ];
  for (const [method, params, role, code] of refused) {
    await t.rejects(as(sim, method, params, role), { code });
  }
  await t.rejects(as(sim, 'instance.show', { id: 'nobody' }), { code: 'NOT_FOUND' });
  await pass(sim, 1_000);
  const entries = entriesOf(sim, seq);
  t.match(
    entries,
    refused.map(([method, , , code]) => ({ kind: 'refusal', who: ALICE, method, outcome: 'refused', code })),
  );
  t.equal(entries.length, refused.length, 'a read that finds nothing is no matter for an audit');
  t.notMatch(JSON.stringify(entries), /hunter2/);
});

t.test('an entry costs no commit of its own, and a flood of refusals next to none', async (t) => {
  const sim = await readyAgent(t);
  const { seq } = sim.agent.services.store.audit.head();
  const commits = await commitsOf(sim, async () => {
    for (let i = 0; i < 5_000; i++) await as(sim, `no.method${i}`, {}).catch(() => undefined);
    await pass(sim, 61_000);
  });
  const entries = entriesOf(sim, seq);
  t.ok(commits <= 10, `${commits} commits`);
  t.equal(entries.filter(({ kind }) => kind === 'refusal').length, 30);
  t.match(entries.at(-1), { kind: 'unrecorded', who: { via: 'socket' }, count: 4_970 });
  const create = await commitsOf(sim, () => sim.run('instance.create', { spec: spec() }));
  t.ok(create <= 12, `${create} commits of a create, as before there was an audit log`);
});

t.test('a flood on one way in hides nothing of what comes on another', async (t) => {
  const sim = await readyAgent(t);
  for (let i = 0; i < 100; i++) await as(sim, 'no.method', {}).catch(() => undefined);
  const who = async () => ({ via: 'link', name: 'scheduler', uid: null, pid: null }) as const;
  const caller = { role: 'observe', identity: { via: 'link', who } } as const;
  await t.rejects(sim.agent.dispatcher.call('instance.delete', { id: 'web' }, caller));
  await pass(sim, 1_000);
  t.match(entriesOf(sim).at(-1), { kind: 'refusal', who: { via: 'link' }, method: 'instance.delete' });
});

t.test('refusals that wait are written when the agent stops', async (t) => {
  const sim = await readyAgent(t);
  for (let i = 0; i < 40; i++) await as(sim, 'no.method', {}).catch(() => undefined);
  await sim.stop();
  await sim.restart();
  const last = entriesOf(sim).filter(({ kind }) => kind !== 'call' && kind !== 'end');
  t.match(last.at(-2), { kind: 'refusal' });
  t.match(last.at(-1), { kind: 'unrecorded', count: 10 });
});

t.test('the oldest go beyond the limit, and the chain goes on from the checkpoint', async (t) => {
  const sim = await simAgent(t, { config: '[audit]\nkeepEntries = 1000\n' });
  const { store } = sim.agent.services;
  for (let round = 0; round < 30; round++) {
    store.db.transaction(() => {
      for (let i = 0; i < 100; i++) store.audit.append({ kind: 'call', method: `m${round}.${i}` });
    });
  }
  const entries = entriesOf(sim);
  t.ok(entries.length <= 1_200, `${entries.length}`);
  t.equal(entries[0]?.seq, store.audit.base().seq + 1);
  t.match(
    entries.find(({ kind }) => kind === 'cut'),
    { count: 200 },
  );
  t.match(await verdictOf(sim), { intact: true, entries: entries.length });
  await t.rejects(store.audit.verify({ seq: 1, hash: '0'.repeat(64) }), { code: 'NOT_FOUND' });
});

t.test('the database itself refuses to change an entry, and to remove one that is kept', async (t) => {
  const sim = await readyAgent(t);
  const { db } = sim.agent.services.store;
  t.throws(() => db.sql("UPDATE audit SET body = '{}' WHERE seq = 2").run(), /append-only/);
  t.throws(() => db.sql('DELETE FROM audit WHERE seq = 2').run(), /append-only/);
});

/** What somebody with root and sqlite3 does to the file while no daemon runs. */
async function tampered(t: Test, sql: string): Promise<{ sim: SimAgent; before: AuditVerdict }> {
  const sim = await readyAgent(t);
  for (const name of ['a', 'b', 'c']) await sim.run('volume.create', { name, sizeGib: 1 });
  const before = await verdictOf(sim);
  await sim.stop();
  const file = new Sqlite(join(sim.folder, 'berth.sqlite'));
  file.exec(`DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_kept; ${sql}`);
  file.close();
  await sim.restart();
  return { sim, before };
}

const TAMPERINGS: [what: string, sql: string, fault: RegExp][] = [
  [
    'changed',
    "UPDATE audit SET body = replace(body, 'volume.create', 'volume.delete') WHERE seq = 6",
    /entry 6/,
  ],
  ['changed in its time', "UPDATE audit SET at = '2020-01-01T00:00:00.000Z' WHERE seq = 6", /entry 6/],
  ['removed', 'DELETE FROM audit WHERE seq = 6', /entry 6 is missing/],
  [
    'moved',
    'UPDATE audit SET seq = 9999 WHERE seq = 6; UPDATE audit SET seq = 6 WHERE seq = 7; UPDATE audit SET seq = 7 WHERE seq = 9999',
    /entry 6/,
  ],
  ['inserted', 'INSERT INTO audit SELECT 9000, at, body, hash FROM audit WHERE seq = 6', /9000|missing/],
  ['cut off at the end', 'DELETE FROM audit WHERE seq > 6', /ends at entry 6; it was written up to/],
  ['cut off at the beginning', 'DELETE FROM audit WHERE seq < 4', /entry 1 is missing/],
];
for (const [what, sql, fault] of TAMPERINGS) {
  t.test(`an entry that was ${what} is found`, async (t) => {
    const { sim } = await tampered(t, sql);
    t.match(await sim.call('audit.verify'), { intact: false, fault });
  });
}

t.test('a tail that was cut off together with the head is found by a head that was noted', async (t) => {
  const { sim, before } = await tampered(
    t,
    `DELETE FROM audit WHERE seq > 6;
     UPDATE audit_chain SET head_seq = 6, head_hash = (SELECT hash FROM audit WHERE seq = 6)`,
  );
  t.match(await sim.call('audit.verify'), { intact: true }, 'the file alone does not show it');
  t.match(await sim.call('audit.verify', { noted: before.head }), {
    intact: false,
    fault: new RegExp(`ends at entry \\d+; entry ${before.head.seq} was noted`),
  });
});

t.test('a head that was noted is found again in a log that has grown', async (t) => {
  const sim = await readyAgent(t);
  const { head } = await verdictOf(sim);
  await sim.run('volume.create', { name: 'a', sizeGib: 1 });
  t.match(await sim.call('audit.verify', { noted: head }), { intact: true });
  const other = { seq: head.seq, hash: 'f'.repeat(64) };
  t.match(await sim.call('audit.verify', { noted: other }), { intact: false, fault: /another one/ });
});

t.test('each entry is in the log of the process, with its hash', async (t) => {
  const sim = await readyAgent(t);
  const { head } = await verdictOf(sim);
  t.match(
    sim.logged.findLast(({ message }) => message === 'audited'),
    {
      level: 'info',
      fields: { audit: { seq: head.seq, hash: head.hash } },
    },
  );
});

t.test('no secret of a call is in the audit log, the log of the process or the database', async (t) => {
  const sim = await readyAgent(t);
  const secret = 'hunter2-of-the-user-data';
  const userData = `#cloud-config\npassword: ${secret}\n`;
  t.match(await sim.run('instance.create', { spec: spec('web', { userData }) }), { state: 'succeeded' });
  t.notMatch(JSON.stringify(entriesOf(sim)), secret);
  t.notMatch(JSON.stringify(sim.logged), secret);
  sim.agent.services.store.db.checkpoint();
  t.notOk(readFileSync(join(sim.folder, 'berth.sqlite')).includes(secret));
});
