/** What was claimed before there were several pools is claimed of the default one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t from 'tap';
import { seals } from '../../../src/agent/store/migrations/006-seals.ts';
import { migrations } from '../../../src/agent/store/migrations/index.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';

/** Before rows had seals: what is written by hand here has none. */
const VERSION_BEFORE = migrations.indexOf(seals);
const WEB = '00000000-0000-4000-8000-000000000001';
const DATA = '00000000-0000-4000-8000-000000000002';

t.test('claims and volumes of an older version are of the default pool', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-old-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const sqlite = new Sqlite(join(folder, 'berth.sqlite'));
  for (const migration of migrations.slice(0, VERSION_BEFORE)) sqlite.exec(migration);
  sqlite.pragma(`user_version = ${VERSION_BEFORE}`);
  const claim = sqlite.prepare(
    'INSERT INTO allocations (consumer_id, resource_class, amount) VALUES (?, ?, ?)',
  );
  for (const [name, amount] of [
    ['VCPU', 2],
    ['MEMORY_MB', 512],
    ['DISK_GB', 4],
  ])
    claim.run(WEB, name, amount);
  claim.run(DATA, 'DISK_GB', 10);
  sqlite
    .prepare(
      "INSERT INTO volumes (id, name, pool, size_gib, deleted_with_instance, state, created_at) VALUES (?, 'data', 'default', 10, 0, 'ready', '2026-01-01T00:00:00.000Z')",
    )
    .run(DATA);
  sqlite.close();
  const store = new Store(folder, systemClock);
  t.same(store.allocations.used(), { VCPU: 2, MEMORY_MB: 512, DISK_GB: 14 });
  t.equal(store.allocations.usedOf('default'), 14);
  t.equal(store.volumes.get('data').pool, 'default');
  store.db.transaction(() => {
    store.allocations.setDisks(DATA, { fast: 7 });
    store.allocations.remove(WEB);
  });
  t.same(store.allocations.used(), { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 });
  t.equal(store.allocations.usedOf('fast'), 7);
  store.close();
});
