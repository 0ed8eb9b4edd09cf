import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t, { type Test } from 'tap';
import { migrations } from '../../../src/agent/store/migrations/index.ts';
import type { EventType } from '../../../src/model/event.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'gag-store-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** An open store, with what its listeners have thrown. */
function storeOf(t: Test, folder = folderOf(t)): { store: Store; faults: unknown[]; folder: string } {
  const faults: unknown[] = [];
  const store = new Store(folder, systemClock, { report: (error) => faults.push(error) });
  t.teardown(() => store.close());
  return { store, faults, folder };
}

function append(store: Store, count = 1, type: EventType = 'inventory.changed'): void {
  store.db.transaction(() => {
    for (let i = 0; i < count; i++) store.events.append(type, null, {});
  });
}

/** Lets the database grow by `pages` pages of 4 KiB, as on a disk that is nearly full. */
function leaveRoom(store: Store, pages: number): void {
  const used = store.db.sql('PRAGMA page_count').get()?.['page_count'] as number;
  store.db.sql(`PRAGMA max_page_count = ${used + pages}`).get();
}

t.test('an empty folder gets the newest schema; the same file is taken up as it is', async (t) => {
  const folder = join(folderOf(t), 'made', 'on', 'the', 'way');
  for (const opening of [1, 2]) {
    const store = new Store(folder, systemClock);
    t.equal(store.db.sql('PRAGMA user_version').get()?.['user_version'], migrations.length);
    append(store);
    t.equal(store.events.lastSeq(), opening);
    store.close();
  }
});

t.test('a file that has been through no migration yet is taken through all of them', async (t) => {
  const folder = folderOf(t);
  new Sqlite(join(folder, 'berth.sqlite')).close();
  const { store } = storeOf(t, folder);
  t.equal(store.db.sql('PRAGMA user_version').get()?.['user_version'], migrations.length);
  t.same(store.instances.list(), []);
});

t.test('a database of a newer Berth is refused and left as it is', async (t) => {
  const folder = folderOf(t);
  const sqlite = new Sqlite(join(folder, 'berth.sqlite'));
  sqlite.exec('CREATE TABLE of_the_future (x)');
  sqlite.pragma(`user_version = ${migrations.length + 1}`);
  sqlite.close();
  t.throws(() => new Store(folder, systemClock), {
    code: 'UNSUPPORTED',
    message: new RegExp(`version ${migrations.length + 1}; this Berth knows up to ${migrations.length}`),
  });
  const again = new Sqlite(join(folder, 'berth.sqlite'));
  t.same(again.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all(), [
    { name: 'of_the_future' },
  ]);
  again.close();
});

t.test(
  'a second process on the same folder is refused until the first has ended, killed or not',
  async (t) => {
    const folder = folderOf(t);
    const module = new URL('../../../src/agent/store/store.ts', import.meta.url).href;
    const script = `
    const { Store } = await import(${JSON.stringify(module)});
    new Store(${JSON.stringify(folder)}, {});
    console.log('open');
    setInterval(() => {}, 1000);`;
    const other = spawn(
      process.execPath,
      ['--conditions=berth-source', '--input-type=module', '-e', script],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    const exit = once(other, 'exit');
    t.teardown(() => other.kill('SIGKILL'));
    await once(other.stdout, 'data');
    t.throws(() => new Store(folder, systemClock), { code: 'HOST_CONFLICT', message: /Another berthd/ });
    t.throws(() => new Store(folder, systemClock), { code: 'HOST_CONFLICT' }, 'again and again');
    other.kill('SIGKILL');
    await exit;
    new Store(folder, systemClock).close();
  },
);

t.test('only the owner can read any of its files', async (t) => {
  const mask = process.umask(0);
  t.teardown(() => process.umask(mask));
  const { store, folder } = storeOf(t);
  append(store);
  for (const name of readdirSync(folder)) t.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name);
  t.match(readdirSync(folder).sort(), ['berth.sqlite', 'berth.sqlite-wal']);
});

t.test('a folder that cannot be made or written is told in a typed error', async (t) => {
  const file = join(folderOf(t), 'file');
  writeFileSync(file, '');
  for (const folder of [file, join(file, 'below')])
    t.throws(() => new Store(folder, systemClock), { code: 'UNAVAILABLE', hint: /node\.stateDir/ }, folder);
});

t.test('a file that is no database is refused and left as it is', async (t) => {
  const folder = folderOf(t);
  const file = join(folder, 'berth.sqlite');
  const text = 'this is somebody else\u2019s file'.repeat(200);
  writeFileSync(file, text);
  t.throws(() => new Store(folder, systemClock), { code: 'HOST_CONFLICT', message: /no database/ });
  t.equal(readFileSync(file, 'utf8'), text);
});

t.test('a full disk is a typed error, undoes the transaction, and is over when there is room', async (t) => {
  const { store } = storeOf(t);
  leaveRoom(store, 2);
  const fill = () =>
    store.db.transaction(() => store.events.append('inventory.changed', null, { text: 'x'.repeat(100_000) }));
  t.throws(fill, { code: 'UNAVAILABLE', hint: /room/ });
  t.equal(store.events.lastSeq(), 0);
  leaveRoom(store, 1_000);
  fill();
  t.equal(store.events.lastSeq(), 1);
});

t.test('a transaction that is undone leaves no event, no number, and tells nobody', async (t) => {
  const { store } = storeOf(t);
  append(store);
  const told: number[] = [];
  store.events.subscribe(({ seq }) => told.push(seq));
  const undone = () =>
    store.db.transaction(() => {
      store.meta.set('epoch', 9);
      store.events.append('inventory.changed', null, {});
      store.db.onCommit(() => told.push(-1));
      throw new Error('no');
    });
  t.throws(undone, { message: 'no' });
  t.same(told, []);
  t.equal(store.meta.get('epoch'), null);
  append(store);
  t.same(told, [2], 'the next one has the next number');
  t.same(
    store.events.after(0, 10).map(({ seq }) => seq),
    [1, 2],
  );
});

t.test(
  'a listener that throws is reported, and keeps neither the change nor the others from their end',
  async (t) => {
    const { store, faults } = storeOf(t);
    const told: string[] = [];
    store.events.subscribe(() => told.push('before'));
    store.events.subscribe(() => {
      throw new Error('a broken listener');
    });
    store.events.subscribe(({ seq }) => told.push(`after ${seq}`));
    t.doesNotThrow(() => append(store, 2));
    t.same(told, ['before', 'after 1', 'before', 'after 2']);
    t.match(faults, [{ message: 'a broken listener' }, { message: 'a broken listener' }]);
    t.equal(store.events.lastSeq(), 2);
  },
);

t.test('a listener may leave while it is told, and write', async (t) => {
  const { store, faults } = storeOf(t);
  const told: number[] = [];
  const leave = store.events.subscribe(({ seq }) => {
    told.push(seq);
    leave();
    append(store);
  });
  append(store);
  append(store);
  t.same(told, [1]);
  t.same(faults, []);
  t.equal(store.events.lastSeq(), 3);
});

t.test('writes outside of a transaction and transactions within one are refused', async (t) => {
  const { store } = storeOf(t);
  t.throws(() => store.events.append('inventory.changed', null, {}), { message: /outside of a transaction/ });
  t.throws(() => store.meta.set('epoch', 1), { message: /outside of a transaction/ });
  t.throws(() => store.db.transaction(() => store.db.transaction(() => 1)), {
    message: /within a transaction/,
  });
  append(store);
  t.equal(store.events.lastSeq(), 1, 'and the next one works');
});

t.test('of acknowledged events the last 10,000 are kept', async (t) => {
  const { store } = storeOf(t);
  for (let i = 0; i < 12; i++) append(store, 1_000);
  t.equal(store.events.firstSeq(), 1, 'all, while nobody has acknowledged any');
  store.events.acknowledge(500);
  append(store, 1_000);
  t.equal(store.events.firstSeq(), 501);
  store.events.acknowledge(13_000);
  append(store, 1_000);
  t.equal(store.events.firstSeq(), 4_001);
});

t.test('of events that nobody acknowledges the last 200,000 are kept', async (t) => {
  const { store } = storeOf(t);
  for (let i = 0; i < 202; i++) append(store, 1_000, 'image.created');
  t.equal(store.events.firstSeq(), 2_001);
  t.equal(store.events.lastSeq(), 202_000);
});

t.test('daemons that live for fewer events than a clean-up interval clean up all the same', async (t) => {
  const folder = folderOf(t);
  for (let life = 0; life < 13; life++) {
    const store = new Store(folder, systemClock);
    store.events.acknowledge(store.events.lastSeq());
    append(store, 900);
    store.close();
  }
  const { store } = storeOf(t, folder);
  t.ok((store.events.firstSeq() ?? 0) > 1, `the oldest kept is ${store.events.firstSeq()}`);
});

t.test('an acknowledgement costs no commit, never goes back, and never beyond what there is', async (t) => {
  const folder = folderOf(t);
  const { store } = storeOf(t, folder);
  append(store, 10);
  const sizeBytes = () => statSync(join(folder, 'berth.sqlite-wal')).size;
  const before = sizeBytes();
  store.events.acknowledge(7);
  store.events.acknowledge(3);
  t.equal(store.events.acknowledged(), 7);
  t.equal(sizeBytes(), before);
  store.events.acknowledge(1_000_000);
  t.equal(store.events.acknowledged(), 10);
});

t.test('whoever watches commits is told of each before it is made and after, and of none that fails', (t) => {
  const told: string[] = [];
  const store = new Store(':memory:', systemClock, {
    commits: {
      beforeCommit: () => void told.push(`before ${store.meta.get('epoch')}`),
      afterCommit: () => void told.push('after'),
    },
  });
  t.teardown(() => store.close());
  store.db.transaction(() => {
    store.meta.set('epoch', 1);
    store.db.onCommit(() => void told.push('the others'));
  });
  t.same(told.splice(0), ['before 1', 'after', 'the others']);
  t.throws(() =>
    store.db.transaction(() => {
      throw new Error('undone');
    }),
  );
  t.same(told, []);
  t.end();
});
