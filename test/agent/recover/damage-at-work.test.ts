/**
 * What goes wrong besides: damage that is met at work, a disk that is full or can't be written, and backups.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { findDamageInStoreFile } from '../../../src/agent/store/store.ts';
import { prepare, readyAgent, SimAgent, simAgent, spec } from '../support/sim-agent.ts';
import { auditAgainstHost, DATABASE, databasePath, setAside, stateOf } from '../support/state.ts';

/** Why no small file system can be mounted here; false where it can. */
const skip = cannotMount();

function cannotMount(): string | false {
  const folder = mkdtempSync(join(tmpdir(), 'berth-mount-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'berth-test', folder], { stdio: 'pipe' });
    execFileSync('umount', [folder]);
    return false;
  } catch (error) {
    return `no tmpfs can be mounted here: ${error}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A node whose state folder is a file system of its own. */
async function mounted(t: Test, size: string): Promise<SimAgent> {
  const root = mkdtempSync(join(tmpdir(), 'berth-mount-'));
  const folder = join(root, 'state');
  mkdirSync(folder);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=711`, 'berth-test', folder]);
  const sim = new SimAgent({ folder });
  t.teardown(() => {
    execFileSync('umount', ['-l', folder]);
    rmSync(root, { recursive: true });
  });
  return sim;
}

t.test('damage that a statement meets stops the agent, and the next one has all guests', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const before = stateOf(sim);
  const { store } = sim.agent.services;
  store.db.checkpoint();
  // The page is not in the cache any more: SQLite reads what is there now.
  store.db.sql('PRAGMA shrink_memory').run();
  const file = openSync(databasePath(sim), 'r+');
  const { size } = statSync(databasePath(sim));
  for (let at = 4096; at < size; at += 4096) writeSync(file, Buffer.alloc(4096, 0xa5), 0, 4096, at);
  await t.rejects(sim.call('instance.list'), { code: 'UNAVAILABLE', message: /damaged/ });
  t.match(await sim.agent.damaged, /malformed/);
  t.equal(sim.agent.isDamaged, true);
  t.ok(existsSync(databasePath(sim, '.condemned')));
  await sim.stop();
  await sim.restart();
  t.same(stateOf(sim), before);
  t.equal(setAside(sim).length, 1);
});

t.test('the look at all of it finds what no statement has met, in a row of the events too', async (t) => {
  const sim = await readyAgent(t);
  const { store } = sim.agent.services;
  t.equal(await lookAt(sim), null);
  store.db.checkpoint();
  const whole = readFileSync(databasePath(sim));
  const file = openSync(databasePath(sim), 'r+');
  // Each of them: the first may be what is left in a page that is free by now.
  for (const { index } of whole.toString('latin1').matchAll(/"operation":\{"id"/g))
    writeSync(file, 'X', index + 3);
  store.db.sql('PRAGMA shrink_memory').run();
  t.match(await lookAt(sim), /rows of events are not as they were written/);
  await sim.stop();
  await sim.restart();
  t.equal(setAside(sim).length, 1);
});

/** Lets the daily look come, and answers what it found. */
async function lookAt(sim: SimAgent): Promise<string | null> {
  const copy = join(sim.folder, 'looked-at.sqlite');
  rmSync(copy, { force: true });
  try {
    await sim.call('node.backup', { path: copy });
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

t.test('a backup is one whole file for root alone, and its digest is told', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const path = join(sim.folder, 'backup.sqlite');
  const told = await sim.call('node.backup', { path });
  const bytes = readFileSync(path);
  t.same(told, { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(findDamageInStoreFile(path), null);
  t.same(
    readdirSync(sim.folder).filter((name) => name.startsWith('backup')),
    ['backup.sqlite'],
  );
});

t.test('a backup goes nowhere but to a new file in a real folder', async (t) => {
  const sim = await simAgent(t);
  const at = (name: string) => join(sim.folder, name);
  writeFileSync(at('there'), 'precious');
  symlinkSync(at('nowhere'), at('link'));
  symlinkSync(sim.folder, at('folder'));
  const refused: [path: string, code: string][] = [
    ['relative.sqlite', 'INVALID_ARGUMENT'],
    ['/', 'INVALID_ARGUMENT'],
    [`${sim.folder}/../x.sqlite`, 'INVALID_ARGUMENT'],
    [at('there'), 'ALREADY_EXISTS'],
    [at('link'), 'ALREADY_EXISTS'],
    [at('folder/x.sqlite'), 'INVALID_ARGUMENT'],
    [at('none/x.sqlite'), 'INVALID_ARGUMENT'],
    [databasePath(sim), 'ALREADY_EXISTS'],
    ['/proc/berth.sqlite', 'UNAVAILABLE'],
  ];
  for (const [path, code] of refused) await t.rejects(sim.call('node.backup', { path }), { code }, path);
  t.equal(readFileSync(at('there'), 'utf8'), 'precious');
  const asScheduler = sim.agent.dispatcher.call('node.backup', { path: at('x') }, { role: 'operate' });
  await t.rejects(asScheduler, { code: 'PERMISSION_DENIED' });
});

t.test('a backup that is put back serves, and learns from the host what it has not', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('old', { userData: '#!/bin/sh\n' }) });
  const path = join(sim.folder, 'backup.sqlite');
  await sim.call('node.backup', { path });
  await sim.run('instance.create', { spec: spec('new') });
  const before = stateOf(sim);
  await sim.crash();
  for (const suffix of ['', '-wal']) rmSync(databasePath(sim, suffix), { force: true });
  copyFileSync(path, databasePath(sim));
  await sim.restart();
  t.same(stateOf(sim), before);
  auditAgainstHost(t, sim, 'put back');
  t.same(setAside(sim), []);
  t.equal(
    (await sim.call('instance.show', { id: 'old' })).instance.userDataBytes,
    10,
    'it knows more than the host',
  );
  t.match((await sim.call('node.status')).database, { state: 'ok', reason: /it ends with event/ });
});

t.test('a full disk keeps a damaged database from being replaced, and loses nothing', { skip }, async (t) => {
  const sim = await mounted(t, '4m');
  await sim.start();
  await prepare(sim);
  await sim.run('instance.create', { spec: spec() });
  const before = stateOf(sim);
  await sim.stop();
  truncateSync(databasePath(sim), statSync(databasePath(sim)).size - 4096);
  const broken = readFileSync(databasePath(sim));
  const filler = join(sim.folder, 'filler');
  t.throws(() => writeFileSync(filler, Buffer.alloc(8 * 1024 * 1024)), { code: 'ENOSPC' });
  for (let start = 1; start <= 3; start++) {
    t.throws(() => sim.secondAgent(), { code: 'UNAVAILABLE' }, `start ${start}`);
    t.notOk(
      existsSync(databasePath(sim, '.condemned')) && statSync(databasePath(sim, '.condemned')).size === 0,
    );
  }
  rmSync(filler);
  await sim.restart();
  t.same(stateOf(sim), before);
  const kept = setAside(sim).map((name) => readFileSync(join(sim.folder, name)));
  t.ok(
    kept.some((bytes) => bytes.equals(broken)),
    'the broken file is kept',
  );
  await sim.stop();
});

t.test('a folder that can not be written is refused, and nothing in it is changed', { skip }, async (t) => {
  const sim = await mounted(t, '4m');
  await sim.start();
  await prepare(sim);
  await sim.run('instance.create', { spec: spec() });
  const before = stateOf(sim);
  await sim.stop();
  truncateSync(databasePath(sim), statSync(databasePath(sim)).size - 4096);
  const names = readdirSync(sim.folder).sort();
  execFileSync('mount', ['-o', 'remount,ro', sim.folder]);
  t.throws(() => sim.secondAgent(), { code: 'UNAVAILABLE' });
  t.same(readdirSync(sim.folder).sort(), names);
  execFileSync('mount', ['-o', 'remount,rw', sim.folder]);
  await sim.restart();
  t.same(stateOf(sim), before);
  t.equal(setAside(sim).length, 1);
  await sim.stop();
});

t.test('a file that its owner alone may read stays so when it is set aside', async (t) => {
  const sim = await simAgent(t);
  await sim.stop();
  truncateSync(databasePath(sim), 4096);
  chmodSync(databasePath(sim), 0o600);
  await sim.restart();
  for (const name of readdirSync(sim.folder).filter((each) => each.startsWith(DATABASE)))
    t.equal(statSync(join(sim.folder, name)).mode & 0o777, 0o600, name);
});
