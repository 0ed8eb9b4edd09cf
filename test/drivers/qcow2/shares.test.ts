/** Shares as folders: what guests may have made of one, and what a crash may have left. */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { Exec, RunOptions } from '../../../src/drivers/host/exec.ts';
import { projectOf } from '../../../src/drivers/qcow2/project-quotas.ts';
import { exec, makePool, refuses } from './fixtures.ts';

const LABEL = { name: 'files', createdAt: '2026-01-02T03:04:05.678Z', quotaGib: null, protected: false };

t.test('a share that is a link or a file is no share, and what it points at stays', async (t) => {
  const { folder, pool } = await makePool(t);
  const elsewhere = join(folder, 'elsewhere');
  await mkdir(elsewhere);
  await writeFile(join(elsewhere, 'precious'), 'precious');
  for (const make of [(path: string) => symlink(elsewhere, path), (path: string) => writeFile(path, '')]) {
    const id = randomUUID();
    await make(pool.paths.share(id));
    await refuses(t, pool.lookShare(id), 'HOST_CONFLICT', /no folder/);
    await refuses(t, pool.makeShare({ id, label: LABEL }), 'HOST_CONFLICT', /no folder/);
    t.match((await pool.survey()).shares, [{ id, fault: /no folder/ }]);
    await refuses(t, pool.removeShare(id, { files: 'kept' }), 'HOST_CONFLICT', /nobody has asked/);
    await pool.removeShare(id, { files: 'removed' });
    t.equal(await readFile(join(elsewhere, 'precious'), 'utf8'), 'precious');
  }
});

t.test('links that a guest has made are not followed by a removal', async (t) => {
  const { folder, pool } = await makePool(t);
  const id = randomUUID();
  await pool.makeShare({ id, label: LABEL });
  const share = pool.paths.share(id);
  await writeFile(join(folder, 'precious'), 'precious');
  await symlink(folder, join(share, 'up'));
  await symlink('/', join(share, 'root'));
  await mkdir(join(share, '-rf'));
  await pool.removeShare(id, { files: 'removed' });
  t.equal(await readFile(join(folder, 'precious'), 'utf8'), 'precious');
  t.same(await pool.list(), []);
});

t.test('a removal stops before a file system that is mounted in a share', { skip: notRoot() }, async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  await pool.makeShare({ id, label: LABEL });
  const place = join(pool.paths.share(id), 'mounted');
  await mkdir(place);
  await exec.run('mount', ['-t', 'tmpfs', 'tmpfs', place]);
  t.teardown(() => exec.run('umount', [place]).catch(() => undefined));
  await writeFile(join(place, 'theirs'), 'theirs');
  await refuses(t, pool.removeShare(id, { files: 'removed' }), 'HOST_CONFLICT', /mounted/);
  t.equal(await readFile(join(place, 'theirs'), 'utf8'), 'theirs');
  await exec.run('umount', [place]);
  await pool.removeShare(id, { files: 'removed' });
  t.same(await pool.list(), []);
});

t.test('a half-made share is listed, made whole by the next try, or removed', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  const partial = `${pool.paths.share(id)}.partial`;
  await mkdir(partial);
  t.match(await pool.list(), [{ kind: 'share', id, path: partial }]);
  t.equal(await pool.lookShare(id), null);
  await pool.makeShare({ id, label: LABEL });
  t.match(await pool.list(), [{ kind: 'share', id, path: pool.paths.share(id) }]);
  t.equal((await stat(pool.paths.share(id))).mode & 0o777, 0o755);
  await pool.removeShare(id, { files: 'removed' });
  await mkdir(partial);
  await pool.removeShare(id, { files: 'kept' });
  t.same(await pool.list(), []);
});

t.test('a label that is damaged, foreign or endless is none', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  await pool.makeShare({ id, label: LABEL });
  const whole = JSON.stringify({ version: 1, ...LABEL });
  for (const text of [
    '',
    'null',
    '{',
    whole.replace('"version":1', '"version":2'),
    whole.replace('files', '../files'),
    whole.replace('null', '-1'),
    whole.padEnd(5_000, ' '),
  ]) {
    await writeFile(`${pool.paths.share(id)}.json`, text);
    t.same(await pool.lookShare(id), { label: null }, text.slice(0, 40));
  }
  await pool.configureShare(id, LABEL);
  t.same(await pool.lookShare(id), { label: LABEL }, 'and is written anew');
});

t.test('where the folder of shares is missing, nothing is known of any', async (t) => {
  const { pool } = await makePool(t);
  const id = randomUUID();
  await pool.makeShare({ id, label: LABEL });
  await rm(dirname(pool.paths.share(id)), { recursive: true });
  await refuses(t, pool.lookShare(id), 'UNAVAILABLE', /ENOENT/);
  await refuses(t, pool.makeShare({ id, label: LABEL }), 'UNAVAILABLE', /ENOENT/);
});

/** Programs of a host that keeps project quotas: what is asked of them is noted. */
function quotaHost(mount: object, missing: string[] = []) {
  const asked: string[][] = [];
  const stand: Exec = {
    async run(program: string, args: readonly string[], options?: RunOptions) {
      if (!['findmnt', 'chattr', 'setquota'].includes(program)) return exec.run(program, args, options);
      if (missing.includes(program)) throw new AgentError('UNSUPPORTED', `${program} is not installed`);
      asked.push([program, ...args]);
      const stdout = program === 'findmnt' ? JSON.stringify({ filesystems: [mount] }) : '';
      return { exitCode: 0, stdout, stderr: '' };
    },
  };
  return { exec: stand, asked };
}

const XFS = { target: '/srv', fstype: 'xfs', options: 'rw,relatime,prjquota' };

t.test('each share is of a project of its own, from before anything is in it', async (t) => {
  const host = quotaHost(XFS);
  const { pool } = await makePool(t, { exec: host.exec });
  const id = randomUUID();
  await pool.makeShare({ id, label: LABEL });
  const path = `${pool.paths.share(id)}.partial`;
  t.same(host.asked.at(-1), ['chattr', '-p', String(projectOf(id)), '+P', path]);
  t.ok(projectOf(id) >= 2 ** 30 && projectOf(id) < 2 ** 31, 'a number that every tool takes');
});

t.test('a quota that the kernel is not seen to hold is refused', async (t) => {
  const host = quotaHost(XFS);
  const { pool } = await makePool(t, { exec: host.exec });
  const id = randomUUID();
  const label = { ...LABEL, quotaGib: 1 };
  await refuses(t, pool.makeShare({ id, label }), 'UNSUPPORTED', /would not be held/);
  const args = ['setquota', '-P', String(projectOf(id)), '0', String(1024 ** 2), '0', '0', '/srv'];
  t.same(host.asked.at(-1), args);
  t.equal(await pool.lookShare(id), null);
  await pool.removeShare(id, { files: 'kept' });
  t.same(host.asked.at(-1)?.slice(3), ['0', '0', '0', '0', '/srv'], 'and goes with what was made of it');
});

t.test('what a quota needs is said', async (t) => {
  const label = { ...LABEL, quotaGib: 1 };
  for (const [mount, missing, message] of [
    [{ ...XFS, options: 'rw,usrquota' }, [], /xfs on \/srv keeps none/],
    [{ ...XFS, fstype: 'btrfs' }, [], /btrfs on \/srv keeps none/],
    [XFS, ['setquota'], /needs setquota/],
  ] as const) {
    const host = quotaHost(mount, [...missing]);
    const { pool } = await makePool(t, { exec: host.exec });
    await refuses(t, pool.makeShare({ id: randomUUID(), label }), 'UNSUPPORTED', message);
  }
});

function notRoot(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root';
}
