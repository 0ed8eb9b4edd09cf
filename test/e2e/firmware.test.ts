/**
 * Firmware variables of a UEFI guest on a real node: OVMF's, over snapshots of its disks and of its memory, and in backups.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Backup } from '../../src/model/backup.ts';
import { cannotRun, prepare, RealNode, spec, until } from './support/node.ts';
import { isMarked, mark, variablesOf } from './support/variables.ts';

const skip = cannotRun();
/** OVMF under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 600_000;
const storeFolder = mkdtempSync(join(tmpdir(), 'berth-store-'));
const keyFile = join(storeFolder, 'key');
const node = new RealNode({
  config: [
    ...['[[objects]]', 'name = "far"', `path = "${join(storeFolder, 'objects')}"`],
    `backupKeyFile = "${keyFile}"`,
  ].join('\n'),
});

t.before(async () => {
  if (skip) return;
  mkdirSync(join(storeFolder, 'objects'));
  writeFileSync(join(storeFolder, 'objects', '.berth-store'), '');
  writeFileSync(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 });
  await node.start();
  await prepare(node);
});
t.teardown(async () => {
  if (!skip) await node.remove();
  rmSync(storeFolder, { recursive: true });
});

async function ok(...args: string[]): Promise<void> {
  const { code, stderr } = await node.berth(...args);
  if (code !== 0) throw new Error(`berth ${args.join(' ')}: ${stderr}`);
}

t.test(
  'a UEFI guest goes back with its firmware variables, those of its disks alone and those of its memory',
  { skip, timeout: TEST_MS },
  async (t) => {
    const name = 'e2e-variables';
    const nvram = variablesOf(name);
    const change = () => mark(nvram, 'S');
    await node.must('instance.create', { spec: spec(name, { firmware: 'uefi', memoryMib: 128, nics: [] }) });
    await ok('snapshot', 'create', name, 'disks');
    const kept = node.poolFiles().find((file) => file.endsWith('.nvram'));
    const then = readFileSync(join(node.folder, 'state', 'pool', 'volumes', kept ?? ''));
    await ok('instance', 'stop', name, '--mode', 'forced');
    change();
    t.notOk(readFileSync(nvram).equals(then));
    await ok('snapshot', 'revert', name, 'disks', '--yes');
    t.ok(readFileSync(nvram).equals(then), 'as they were');
    change();
    await ok('instance', 'start', name);
    await ok('snapshot', 'create', name, 'awake', '--memory');
    await ok('instance', 'stop', name, '--mode', 'forced');
    writeFileSync(nvram, then);
    await ok('snapshot', 'revert', name, 'awake', '--yes');
    await node.untilPower(name, 'running');
    await until('QEMU has written them anew', TEST_MS, async () =>
      readFileSync(nvram).equals(then) ? null : true,
    );
    t.equal(readFileSync(nvram).at(-1), 0x53, 'those that were in its memory');
    t.same((await node.call('instance.show', { id: name })).instance.drift, []);
    t.ok(node.poolFiles().some((file) => file.endsWith('.nvram')));
    await ok('snapshot', 'delete', name, 'disks', '--yes');
    t.notOk(node.poolFiles().some((file) => file.endsWith('.nvram')));
    await ok('snapshot', 'delete', name, 'awake', '--yes');
    await node.must('snapshot.merge', { id: name });
    await ok('instance', 'delete', name, '--yes', '--wipe');
    t.notOk(existsSync(nvram));
    await until('its disk is wiped', TEST_MS, async () =>
      node.poolFiles().some((file) => file.endsWith('.wipe')) ? null : true,
    );
  },
);

t.test(
  'a UEFI guest that is made of a backup has the firmware variables of its moment, sealed on the way',
  { skip, timeout: TEST_MS },
  async (t) => {
    const [name, again] = ['e2e-booted', 'e2e-booted-again'];
    await node.must('instance.create', { spec: spec(name, { firmware: 'uefi', memoryMib: 128, nics: [] }) });
    const newest = async () => {
      const { backups } = await node.call('backup.list', { instance: name });
      return backups.at(-1) as Backup;
    };
    for (const power of ['stopped', 'running'] as const) {
      const text = `variables of ${power}`;
      await ok('instance', 'stop', name, '--mode', 'forced');
      mark(variablesOf(name), text);
      if (power === 'running') await ok('instance', 'start', name);
      await ok('backup', 'create', name);
      const backup = await newest();
      t.same(backup.nvram, { sizeBytes: readFileSync(variablesOf(name)).length });
      t.notOk(node.poolFiles().some((file) => file.endsWith('.nvram')));
      t.notOk(isInClear(text), 'the store can not read them');
      await ok('backup', 'verify', backup.id);
      await ok('instance', 'stop', name, '--mode', 'forced');
      mark(variablesOf(name), 'later ones');
      await ok('backup', 'restore', backup.id, '--instance', again);
      t.ok(isMarked(variablesOf(again), text));
      t.ok(isMarked(variablesOf(name), 'later ones'), 'and the other guest keeps its own');
      t.match(await node.call('instance.show', { id: again }), { instance: { drift: [] } });
      await ok('instance', 'delete', again, '--yes');
      t.notOk(existsSync(variablesOf(again)));
      await ok('instance', 'start', name);
    }
    const { id } = await newest();
    await ok('backup', 'restore', id, '--instance', again, '--fresh-firmware');
    t.notOk(isMarked(variablesOf(again), 'variables'));
    await ok('instance', 'delete', again, '--yes');
    await ok('instance', 'delete', name, '--yes');
    const { leaks } = await node.call('node.leaks', {});
    t.same(
      leaks.filter(({ proof }) => proof !== null),
      [],
    );
  },
);

/** Whether any object of the store has the text in it as it is. */
function isInClear(text: string): boolean {
  const found = execFileSync('sh', ['-c', 'grep -rlF "$1" "$2" || true', 'sh', text, storeFolder]);
  return found.length > 0;
}
