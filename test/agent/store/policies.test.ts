/** What older versions have written, as it is read after an upgrade. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t from 'tap';
import { policies } from '../../../src/agent/store/migrations/004-policies.ts';
import { migrations } from '../../../src/agent/store/migrations/index.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { Instance, InstanceSpec } from '../../../src/model/instance.ts';
import { Operation } from '../../../src/model/operation.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import { findFault, parse } from '../../../src/model/validate.ts';
import { viewOf } from '../../../src/agent/store/operations.ts';

const AT = '2026-01-01T00:00:00.000Z';
/** A spec as it was before there were policies. */
const OLD_SPEC = {
  name: 'web',
  vcpus: 1,
  memoryMib: 512,
  firmware: 'bios',
  disks: [{ image: 'debian', sizeGib: 4 }],
  nics: [],
  sshAuthorizedKeys: [],
};
const VERSION_BEFORE = migrations.indexOf(policies);

function oldFolder(rows: [id: number, power: string, lifecycle: string][]): string {
  const folder = mkdtempSync(join(tmpdir(), 'gag-old-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const sqlite = new Sqlite(join(folder, 'berth.sqlite'));
  for (const migration of migrations.slice(0, VERSION_BEFORE)) sqlite.exec(migration);
  sqlite.pragma(`user_version = ${VERSION_BEFORE}`);
  for (const [id, power, lifecycle] of rows) {
    sqlite
      .prepare(
        'INSERT INTO instances (id, name, generation, lifecycle, power_state, power_since, power_reason, spec, created_at) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)',
      )
      .run(idOf(id), `web-${id}`, lifecycle, power, AT, 'booted', JSON.stringify(OLD_SPEC), AT);
  }
  sqlite
    .prepare(
      "INSERT INTO operations (id, kind, version, target_kind, target_id, target_name, state, request_digest, plan, created_at) VALUES (?, 'instance.start', 1, 'instance', ?, 'web', 'pending', '', 'null', ?)",
    )
    .run(idOf(99), idOf(1), AT);
  sqlite.close();
  return folder;
}

const idOf = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

t.test(
  'rows of an older version are read with the defaults, and what was stopped is wanted so',
  async (t) => {
    const store = new Store(
      oldFolder([
        [1, 'running', 'ready'],
        [2, 'stopped', 'ready'],
        [3, 'crashed', 'ready'],
        [4, 'unknown', 'ready'],
        [5, 'stopped', 'building'],
      ]),
      systemClock,
    );
    t.teardown(() => store.close());
    const instances = store.instances.list();
    for (const instance of instances)
      t.equal(findFault(Instance, structuredClone(instance)), null, instance.name);
    for (const { spec } of instances) t.match(spec, { watchdog: 'none', policies: DEFAULT_POLICIES });
    t.same(
      instances.map(({ desired }) => desired),
      ['running', 'stopped', 'running', 'running', 'running'],
    );
    t.same(
      instances.map(({ restarts }) => restarts?.givenUp ?? null),
      [null, null, 'it crashed before there were restart policies', null, null],
      'an upgrade starts no guest',
    );
    const operation = viewOf(store.operations.get(idOf(99)), {
      progress: null,
      retry: null,
      children: { total: 0, ended: 0 },
    });
    t.equal(operation.askedBy, null);
    t.equal(findFault(Operation, operation), null);
  },
);

t.test('a spec in the metadata of an older domain is taken with the defaults', async (t) => {
  t.match(parse(InstanceSpec, structuredClone(OLD_SPEC), 'metadata'), {
    watchdog: 'none',
    policies: DEFAULT_POLICIES,
  });
});
