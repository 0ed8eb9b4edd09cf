/** User-data in rows of an older version goes with the upgrade. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t from 'tap';
import { seals } from '../../../src/agent/store/migrations/006-seals.ts';
import { migrations } from '../../../src/agent/store/migrations/index.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';

const AT = '2026-01-01T00:00:00.000Z';
/** Before rows had seals: what is written by hand here has none. */
const VERSION_BEFORE = migrations.indexOf(seals);
const SPEC = {
  name: 'web',
  vcpus: 1,
  memoryMib: 512,
  firmware: 'bios',
  disks: [{ image: 'debian', sizeGib: 4 }],
  nics: [],
  sshAuthorizedKeys: [],
};

function oldFolder(specs: object[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'berth-old-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const sqlite = new Sqlite(join(folder, 'berth.sqlite'));
  for (const migration of migrations.slice(0, VERSION_BEFORE)) sqlite.exec(migration);
  sqlite.pragma(`user_version = ${VERSION_BEFORE}`);
  for (const [index, spec] of specs.entries()) {
    sqlite
      .prepare(
        "INSERT INTO instances (id, name, generation, lifecycle, power_state, power_since, power_reason, spec, created_at) VALUES (?, ?, 1, 'ready', 'running', ?, 'booted', ?, ?)",
      )
      .run(`00000000-0000-4000-8000-00000000000${index}`, `web-${index}`, AT, JSON.stringify(spec), AT);
  }
  sqlite.close();
  return folder;
}

t.test('user-data of an older version is counted, and is in the database no longer', async (t) => {
  const folder = oldFolder([{ ...SPEC, userData: '#!/bin/sh\n# é SECRET\n' }, SPEC]);
  const store = new Store(folder, systemClock);
  t.match(store.instances.list(), [
    { name: 'web-0', userDataBytes: 22, vendorDataBytes: 0, spec: SPEC },
    { name: 'web-1', userDataBytes: 0, vendorDataBytes: 0, spec: SPEC },
  ]);
  store.close();
  t.notMatch(readFileSync(join(folder, 'berth.sqlite'), 'latin1'), /SECRET/);
});
