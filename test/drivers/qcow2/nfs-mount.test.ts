import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CallLimit } from '../../../src/drivers/host/call-limit.ts';
import { type Exec, ProcessError } from '../../../src/drivers/host/exec.ts';
import { findMount, NfsMount, type NfsMountParts } from '../../../src/drivers/qcow2/nfs-mount.ts';

const TABLE = [
  '23 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw',
  '31 28 0:40 / /srv/with\\040blank rw,relatime shared:9 master:1 - nfs4 nas:/a\\040b rw,vers=4.2',
  '32 28 0:41 / /srv/pool rw - ext4 /dev/sdb1 rw',
  '33 32 0:42 / /srv/pool rw - nfs4 nas:/export rw,vers=4.2',
].join('\n');

t.test("a mount is found in the kernel's table, the one on top", async (t) => {
  t.same(findMount(TABLE, '/srv/pool'), { fileSystem: 'nfs4', source: 'nas:/export' });
  t.same(findMount(TABLE, '/srv/with blank'), { fileSystem: 'nfs4', source: 'nas:/a b' });
  t.equal(findMount(TABLE, '/srv'), null);
  t.equal(findMount('', '/srv'), null);
});

function lab(t: Test, change: Partial<NfsMountParts> & { mounted?: string } = {}) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'berth-nfs-')));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'pool');
  const mountsFile = join(folder, 'mountinfo');
  const { mounted, ...parts } = change;
  writeFileSync(mountsFile, mounted === undefined ? '' : `33 32 0:42 / ${path} rw - ${mounted} rw\n`);
  const ran: string[][] = [];
  const exec: Exec = {
    run: async (program, args) => {
      ran.push([program, ...args]);
      return { exitCode: 0, stdout: '', stderr: '' };
    },
  };
  const source = 'nas:/export';
  const mount = new NfsMount({
    path,
    source,
    options: 'hard,nosuid',
    exec,
    mountsFile,
    serviceManager: 'none',
    ...parts,
  });
  const ensure = async () => {
    using limit = new CallLimit('Prepare', {}, 1_000);
    await mount.ensure(limit);
  };
  return { path, ran, ensure };
}

t.test('what is not mounted is, in one try', async (t) => {
  const { path, ran, ensure } = lab(t);
  await ensure();
  t.same(ran, [['mount', '-t', 'nfs', '-o', 'hard,nosuid,retry=0', '--', 'nas:/export', path]]);
  const patient = lab(t, { options: 'soft,retry=2' });
  await patient.ensure();
  t.equal(patient.ran[0]?.[4], 'soft,retry=2');
});

t.test("where systemd runs the mount is made outside of the agent's sandbox", async (t) => {
  const { ran, ensure } = lab(t, { serviceManager: 'systemd' });
  await ensure();
  t.same(ran[0]?.slice(0, 6), ['systemd-run', '--quiet', '--collect', '--wait', '--pipe', '--']);
});

t.test('what is mounted is left as it is', async (t) => {
  for (const mounted of ['nfs4 nas:/export', 'nfs nas:/export/']) {
    const { ran, ensure } = lab(t, { mounted });
    await ensure();
    t.same(ran, []);
  }
});

t.test('what is mounted there instead is a conflict, and nothing is mounted over it', async (t) => {
  for (const mounted of ['nfs4 nas:/other', 'ext4 /dev/sdb1', 'fuse.sshfs nas:/export']) {
    const { ran, ensure } = lab(t, { mounted });
    await t.rejects(ensure(), { code: 'HOST_CONFLICT' });
    t.same(ran, []);
  }
});

t.test('a server that refuses is told with its words', async (t) => {
  const exec: Exec = {
    run: () => Promise.reject(new ProcessError('mount', 32, 'access denied by server', 'ended with code 32')),
  };
  const { ensure } = lab(t, { exec });
  await t.rejects(ensure(), {
    code: 'UNAVAILABLE',
    message: /Cannot mount nas:\/export on/,
    cause: { message: /access denied by server/ },
  });
});
