/** What a tool in the cage finds around it. */
import { open, stat, writeFile } from 'node:fs/promises';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { caged, endingWithUs, sandboxUser } from '../../../src/drivers/host/sandbox.ts';
import { makeFolder } from '../qcow2/fixtures.ts';

const exec = new HostExec();
const user = sandboxUser();
const MIB = 1024 ** 2;
const skip = user === null ? 'needs root' : false;

function inCage(script: string, options: object = {}) {
  return exec.run('sh', ['-c', script], { sandbox: user, ...options });
}

t.test('a tool in the cage has no network', async (t) => {
  const { stdout } = await inCage('cat /proc/net/dev');
  const interfaces = stdout
    .split('\n')
    .slice(2)
    .filter((line) => line !== '');
  t.equal(interfaces.length, 1, 'the loopback of its own, which is down');
  t.match(interfaces[0], /^ *lo:/);
});

t.test('a tool in the cage is nobody, with no capability and no way back', { skip }, async (t) => {
  const { stdout } = await inCage('cat /proc/self/status; id -u; id -G');
  t.match(stdout, /^CapEff:\t0{16}$/m);
  t.match(stdout, /^CapPrm:\t0{16}$/m);
  t.match(stdout, /^CapInh:\t0{16}$/m);
  t.match(stdout, /^NoNewPrivs:\t1$/m);
  t.match(stdout, new RegExp(`^${user?.uid}\n${user?.gid}\n$`, 'm'), 'and in no other group');
  await t.rejects(inCage('cat /etc/shadow'), { message: /Permission denied/ });
});

t.test(
  'a tool in the cage reads the file that it is lent, and not the one beside it',
  { skip },
  async (t) => {
    const folder = await makeFolder(t);
    const lent = join(folder, 'lent');
    await writeFile(lent, 'lent', { mode: 0o640 });
    await writeFile(join(folder, 'other'), 'other', { mode: 0o644 });
    await using file = await open(lent);
    await file.chown(0, user?.gid ?? 0);
    const files = [file.fd];
    t.equal((await inCage('cat /dev/fd/3', { files })).stdout, 'lent');
    await t.rejects(inCage(`cat ${folder}/other`, { files }), { message: /Permission denied/ });
    await t.rejects(inCage('echo x > /dev/fd/3', { files }), { message: /Permission denied/ });
  },
);

t.test('memory, CPU and file size end a tool that takes too much of them', async (t) => {
  const limits = { addressSpaceBytes: 256 * MIB, cpuSeconds: 1, fileSizeBytes: 4096 };
  // It takes a slow machine a second to fill so much.
  const patient = { ...limits, cpuSeconds: 60 };
  await t.rejects(inCage('head -c 500M /dev/zero | tail', { limits: patient }), {
    message: /memory|exhausted/,
  });
  await t.rejects(inCage('while :; do :; done', { limits }), { name: 'ProcessError' });
  const path = join(await makeFolder(t), 'file');
  await using file = await open(path, 'w');
  if (user !== null) await file.chown(user.uid, user.gid);
  await t.rejects(inCage('head -c 100000 /dev/zero > /dev/fd/3', { limits, files: [file.fd] }));
  t.ok((await stat(path)).size <= 4096);
});

t.test('output is taken at the pace of the one who takes it, and what he throws ends the tool', async (t) => {
  let taken = 0;
  const consume = async (chunk: Buffer) => {
    taken += chunk.length;
    if (taken > MIB) throw new Error('enough');
  };
  await t.rejects(inCage('cat /dev/zero', { consume }), { message: 'enough' });
  taken = 0;
  const { stdout } = await inCage('head -c 500000 /dev/zero', { consume });
  t.same([taken, stdout], [500_000, '']);
});

t.test('without root the cage is one of namespaces and limits alone', async (t) => {
  const line = caged(null, { cpuSeconds: 5 }, ['qemu-img', '--version']);
  t.same(line.slice(-6), ['unshare', '--user', '--net', '--', 'qemu-img', '--version']);
  t.notOk(line.includes('setpriv'));
});

t.test('a server ends with whoever has started it, and does not begin without', { skip }, async (t) => {
  const { stdout } = await exec.run('sh', ['-c', 'grep -c . /proc/self/status; echo "$PPID"'], {
    sandbox: user,
    lane: 'servers',
  });
  t.equal(stdout.trim().split('\n').at(-1), String(process.pid));
  const orphan = endingWithUs(['echo', 'begun']).map((arg) => (arg === String(process.pid) ? '1' : arg));
  await t.rejects(exec.run(orphan[0] as string, orphan.slice(1)), { name: 'ProcessError', exitCode: 1 });
  const started = endingWithUs(['sleep', '1000']).map((arg) => (arg === String(process.pid) ? '$$' : arg));
  const script = `${started.map((arg) => (arg === '$$' ? '$$' : `'${arg}'`)).join(' ')} >/dev/null 2>&1 & echo $!; kill -9 $$`;
  const parent = await exec.run('bash', ['-c', `bash -c "$1" || true`, 'sh', script]);
  const pid = Number(parent.stdout.trim());
  while (existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
    await setImmediate();
  t.pass('it is gone');
});
