/** Usage records of nodes: kept once each, whatever is told again, and read without a gap. */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t from 'tap';
import type { UsageRecord } from '../../../src/model/usage.ts';
import { runAdmin } from '../../../src/scheduler/admin.ts';
import { usage } from '../../../src/scheduler/store/migrations/006-usage.ts';
import { migrations } from '../../../src/scheduler/store/migrations/index.ts';
import { Store } from '../../../src/scheduler/store/store.ts';
import type { FakeAgent } from '../support/fake-agent.ts';
import { eventually } from '../support/eventually.ts';
import { type Lab, startLab, TOKEN } from '../support/lab.ts';

function aRecord(of: Partial<UsageRecord> = {}): UsageRecord {
  return {
    id: randomUUID(),
    kind: 'volume',
    objectId: randomUUID(),
    objectName: 'v',
    periodStart: '2026-01-01T00:00:00.000Z',
    periodEnd: '2026-01-01T01:00:00.000Z',
    startedAt: '2026-01-01T00:00:00.000Z',
    endedAt: '2026-01-01T01:00:00.000Z',
    existedSeconds: 3_600,
    measuredFrom: '2026-01-01T00:00:00.000Z',
    measuredUntil: '2026-01-01T01:00:00.000Z',
    instance: null,
    volume: {
      provisionedGibSeconds: 3_600,
      readRequests: 1,
      readBytes: 2,
      writeRequests: 3,
      writtenBytes: 4,
    },
    incomplete: [],
    ...of,
  };
}

async function tell(agent: FakeAgent, records: unknown[]): Promise<void> {
  const { seq } = agent.emit('usage.recorded', { records });
  await eventually(() => agent.acked >= seq);
}

async function idsOf(lab: Lab, query = ''): Promise<string[]> {
  const { body } = await lab.get(`/v1/usage${query}`);
  return body.records.map(({ record }: { record: UsageRecord }) => record.id);
}

t.test('a record that is told again is kept once, also in another event and after a restart', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent();
  await agent.connect();
  const [one, two] = [aRecord(), aRecord()];
  await tell(agent, [one, two]);
  await tell(agent, [two, one]);
  await lab.restart();
  await agent.connect();
  await tell(agent, [one]);
  t.same(await idsOf(lab), [one.id, two.id]);
  const { body } = await lab.get('/v1/usage');
  t.match(body.records[0], { node: agent.nodeId, record: one });
});

t.test('the same id of two nodes is two records: no node can keep another from being billed', async (t) => {
  const lab = await startLab(t);
  const [a, b] = [lab.agent(), lab.agent()];
  await a.connect();
  await b.connect();
  const record = aRecord();
  await tell(a, [record]);
  await tell(b, [{ ...record, objectName: 'forged' }]);
  t.same(await idsOf(lab, `?node=${a.nodeId}`), [record.id]);
  t.equal((await idsOf(lab)).length, 2);
});

t.test('records are found by node, instance, volume, kind and period', async (t) => {
  const lab = await startLab(t);
  const [a, b] = [lab.agent(), lab.agent()];
  await a.connect();
  await b.connect();
  const volume = aRecord();
  const later = aRecord({ objectId: volume.objectId, periodEnd: '2026-01-01T02:00:00.000Z' });
  const instance = aRecord({ kind: 'instance', volume: null });
  await tell(a, [volume, later]);
  await tell(b, [instance]);
  t.same(await idsOf(lab, `?node=${b.nodeId}`), [instance.id]);
  t.same(await idsOf(lab, `?volume=${volume.objectId}`), [volume.id, later.id]);
  t.same(await idsOf(lab, `?instance=${instance.objectId}`), [instance.id]);
  t.same(await idsOf(lab, '?kind=instance'), [instance.id]);
  t.same(await idsOf(lab, '?since=2026-01-01T01:00:00Z'), [later.id], 'ends after it');
  t.same(await idsOf(lab, '?until=2026-01-01T01:00:00Z'), [volume.id, instance.id], 'ends by it');
  t.same(await idsOf(lab, `?volume=${randomUUID()}`), []);
});

t.test('who reads on from its position gets each record once, and those that come late', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent();
  await agent.connect();
  const first = Array.from({ length: 5 }, () => aRecord());
  await tell(agent, first);
  const seen: string[] = [];
  let after = 0;
  const readOn = async (): Promise<void> => {
    for (let next: number | null = after; next !== null; ) {
      const {
        body,
      }: { body: { records: { position: number; record: UsageRecord }[]; next: number | null } } =
        await lab.get(`/v1/usage?after=${next}&limit=2`);
      for (const { position, record } of body.records) {
        seen.push(record.id);
        after = position;
      }
      next = body.next;
    }
  };
  await readOn();
  const late = aRecord({ periodStart: '2025-01-01T00:00:00.000Z', periodEnd: '2025-01-01T01:00:00.000Z' });
  await tell(agent, [late, first[0]]);
  await readOn();
  t.same(seen, [...first.map(({ id }) => id), late.id]);
});

const BAD: [string, unknown][] = [
  ['that is none', 'a text'],
  ['without an id', { ...aRecord(), id: undefined }],
  ['of another kind', { ...aRecord(), kind: 'node' }],
  ['with an amount below nothing', { ...aRecord(), existedSeconds: -1 }],
  ['whose period ends at no time', { ...aRecord(), periodEnd: 'soon' }],
];

for (const [what, bad] of BAD) {
  t.test(`a record ${what} is not kept, and costs neither the others nor the link`, async (t) => {
    const lab = await startLab(t);
    const agent = lab.agent();
    await agent.connect();
    const good = aRecord();
    await tell(agent, [bad, good]);
    t.same(await idsOf(lab), [good.id]);
    t.equal(agent.closeCode, null);
  });
}

const REFUSED = [
  '?after=-1',
  '?limit=0',
  '?limit=1001',
  '?since=yesterday',
  '?since=2026-13-40T00:00:00Z',
  '?kind=node',
  '?volume=x',
  "?instance=' OR 1=1 --",
  `?instance=${randomUUID()}&volume=${randomUUID()}`,
  '?order=desc',
];

t.test('what is asked wrongly is refused, and who shows no token gets nothing', async (t) => {
  const lab = await startLab(t);
  for (const query of REFUSED) t.equal((await lab.get(`/v1/usage${query}`)).status, 400, query);
  t.equal((await lab.get('/v1/usage?node=nobody')).status, 404);
  t.equal((await fetch(`${lab.url}/v1/usage`)).status, 401);
});

t.test('the command line prints all of them, page after page', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent();
  await agent.connect();
  const records = Array.from({ length: 1_001 }, () => aRecord());
  await tell(agent, records);
  const tokenFile = join(lab.stateDir, 'token-for-admin');
  writeFileSync(tokenFile, TOKEN);
  const lines: string[] = [];
  const io = { out: (text: string) => lines.push(text), err: () => undefined };
  const access = ['--url', lab.url, '--token-file', tokenFile, '--state-dir', lab.stateDir];
  await runAdmin(['usage', ...access, '--node', agent.nodeId], io);
  t.same(
    lines.map((line) => JSON.parse(line).record.id),
    records.map(({ id }) => id),
  );
});

t.test('what is too old or too much is pruned, the oldest first', (t) => {
  const store = new Store(':memory:');
  t.teardown(() => store.close());
  const nodeId = randomUUID();
  const { db, usage } = store;
  db.transaction(() => {
    db.sql(
      `INSERT INTO nodes (id, hostname, version, inventory, state, since, reason, last_seq, registered_at)
       VALUES (?, 'h', '1', '{}', 'ready', '', '', 0, '')`,
    ).run(nodeId);
    for (let n = 0; n < 10; n++) usage.add(nodeId, aRecord({ objectName: String(n) }), n * 1_000);
  });
  const left = () => usage.list({}, { after: 0, limit: 100 }).map(({ record }) => record.objectName);
  t.equal(
    db.transaction(() => usage.prune(3_000, 10)),
    3,
  );
  t.same(left(), ['3', '4', '5', '6', '7', '8', '9']);
  t.equal(
    db.transaction(() => usage.prune(0, 10, 2)),
    5,
  );
  t.same(left(), ['8', '9']);
  t.equal(
    db.transaction(() => usage.prune(60_000, 1)),
    1,
    'no more at once than is asked',
  );
  t.same(left(), ['9']);
  t.equal(
    db.transaction(() => usage.prune(60_000, 10)),
    1,
    'also where all are too old',
  );
  t.equal(
    db.transaction(() => usage.prune(0, 10)),
    0,
  );
  t.end();
});

t.test('records in events that were stored before there was a place for them are taken over, once', (t) => {
  const sqlite = new Sqlite(':memory:');
  t.teardown(() => sqlite.close());
  for (const migration of migrations.slice(0, migrations.indexOf(usage))) sqlite.exec(migration);
  sqlite.exec(`INSERT INTO nodes (id, hostname, version, inventory, state, since, reason, last_seq, registered_at)
    VALUES ('n', 'h', '1', '{}', 'ready', '', '', 0, '')`);
  const add = sqlite.prepare('INSERT INTO events (node_id, seq, type, at, data) VALUES (?, ?, ?, ?, ?)');
  const [one, two] = [aRecord(), aRecord()];
  const told = [
    { records: [one, two] },
    { records: [two, 'a text', null, { ...two, id: 7 }, { ...aRecord(), periodEnd: 'soon' }] },
    { records: 'none' },
    {},
  ];
  for (const [at, data] of told.entries()) {
    add.run('n', at + 1, 'usage.recorded', '2026-01-01T01:00:00.005Z', JSON.stringify(data));
  }
  sqlite.exec(usage);
  const rows = sqlite.prepare('SELECT * FROM usage_records ORDER BY position').all();
  t.match(rows, [{ id: one.id }, { id: two.id, period_end_ms: Date.parse(two.periodEnd) }]);
  t.equal(rows.length, 2);
  t.same(JSON.parse((rows[0] as { record: string }).record), one);
  t.end();
});
