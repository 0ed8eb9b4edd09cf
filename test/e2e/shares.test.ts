/**
 * Shares on a real node: mounted by guests, written by them and by the host, and attacked by root in a guest.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Params } from '../../src/model/methods.ts';
import { inGuest, untilUp } from './support/in-guest.ts';
import { cannotRun, prepare, qemuPid, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const [A, B] = ['e2e-share-a', 'e2e-share-b'] as const;
const node = new RealNode();

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
  for (const share of ['files', 'conf', 'more']) await ran('share', 'create', share);
  await made(spec(A));
  await ran('instance', 'stop', A, '--mode', 'forced');
  await ran('share', 'attach', 'files', A, '--tag', 'data');
  await ran('share', 'attach', 'conf', A, '--read-only');
  await ran('instance', 'start', A);
  // The other one is made with its share, and has it at its first boot.
  await made(spec(B, { shares: [{ share: 'files', access: 'read-write' }] }));
  await mountAll();
});
t.teardown(() => (skip ? undefined : node.remove()));

async function made(spec: Params<'instance.create'>['spec']): Promise<void> {
  const { state, error } = await node.run('instance.create', { spec });
  if (state !== 'succeeded') throw new Error(error?.message);
}

async function ran(...words: string[]): Promise<void> {
  const { code, stderr } = await node.berth(...words);
  if (code !== 0) throw new Error(`berth ${words.join(' ')}: ${stderr}`);
}

async function mountAll(): Promise<void> {
  for (const name of [A, B]) await untilUp(`berth-${name}`);
  const mount = (tag: string) => `mkdir -p /mnt/${tag} && mount -t virtiofs ${tag} /mnt/${tag}`;
  await said(A, `modprobe virtiofs; ${mount('data')} && ${mount('conf')} && mkdir -p /mnt/more`);
  await said(B, `modprobe virtiofs; ${mount('files')}`);
}

/** What the guest answers to a command that has to succeed. */
async function said(name: string, script: string): Promise<string> {
  const { code, output } = await inGuest(`berth-${name}`, script);
  if (code !== 0) throw new Error(`${script}: ${code}, ${output}`);
  return output.trim();
}

async function pathOf(share: string): Promise<string> {
  return (await node.call('share.show', { id: share })).path;
}

/** The processes that serve a share. */
async function serversOf(share: string): Promise<string[]> {
  const path = await pathOf(share);
  const { stdout } = spawnSync('pgrep', ['-af', `virtiofsd.*${path}`], { encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line.includes('virtiofsd'));
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

t.test('host and guest read what the other one has written', { skip, timeout: TEST_MS }, async (t) => {
  const folder = await pathOf('files');
  const bytes = randomBytes(3_000_000);
  writeFileSync(join(folder, 'of-host'), bytes);
  t.equal((await said(A, 'sha256sum /mnt/data/of-host')).split(' ')[0], sha256(bytes));
  const made = 'head -c 3000000 /dev/urandom >/mnt/data/of-guest && sync && sha256sum /mnt/data/of-guest';
  t.equal((await said(A, made)).split(' ')[0], sha256(readFileSync(join(folder, 'of-guest'))));
  t.match((await node.berth('instance', 'show', A)).stdout, /Shares:\n.*\n *files +data +read-write/);
  t.match((await node.berth('share', 'show', 'files')).stdout, new RegExp(`${A} +data +read-write`));
  t.same((await node.call('instance.show', { id: A })).instance.drift, []);
});

t.test('two guests have one share, and see each other in it', { skip, timeout: TEST_MS }, async (t) => {
  await said(A, 'echo hello >/mnt/data/of-a && sync');
  t.equal(await said(B, 'cat /mnt/files/of-a'), 'hello');
  await said(B, 'mkdir /mnt/files/folder && echo back >/mnt/files/folder/of-b && sync');
  await until('the other guest sees it', TEST_MS, async () =>
    (await said(A, 'cat /mnt/data/folder/of-b 2>/dev/null || true')) === 'back' ? true : null,
  );
});

t.test('not even root can write to a read-only share', { skip, timeout: TEST_MS }, async (t) => {
  const folder = await pathOf('conf');
  writeFileSync(join(folder, 'setting'), 'as it was\n');
  t.equal(await said(A, 'cat /mnt/conf/setting'), 'as it was');
  for (const attempt of [
    'echo x >/mnt/conf/new',
    'echo x >/mnt/conf/setting',
    'mount -o remount,rw /mnt/conf; echo x >>/mnt/conf/setting',
    'umount /mnt/conf; mount -t virtiofs -o rw conf /mnt/conf; echo x >/mnt/conf/setting',
    'rm /mnt/conf/setting',
    'mv /mnt/conf/setting /mnt/conf/other',
    'mkdir /mnt/conf/folder',
    'ln -s x /mnt/conf/link',
    'ln /mnt/conf/setting /mnt/conf/hard',
    'mknod /mnt/conf/null c 1 3',
    'chmod 777 /mnt/conf/setting',
    'chown 1 /mnt/conf',
    'truncate -s 0 /mnt/conf/setting',
    'touch -d 2001-01-01 /mnt/conf/setting && test "$(stat -c %Y /mnt/conf/setting)" = 978307200',
  ]) {
    const { code, output } = await inGuest(`berth-${A}`, attempt);
    t.not(code, 0, attempt);
    t.match(output, /Read-only file system|read-only/i, attempt);
  }
  t.same(readdirSync(folder), ['setting']);
  t.equal(readFileSync(join(folder, 'setting'), 'utf8'), 'as it was\n');
});

t.test('root in a guest does not come out of its folder', { skip, timeout: TEST_MS }, async (t) => {
  const folder = await pathOf('files');
  const secret = join(node.folder, 'secret');
  writeFileSync(secret, 'of the host');
  const depth = folder.split('/').length + 2;
  const up = '../'.repeat(depth);
  const links = `ln -s ${secret} /mnt/data/absolute; ln -s ${up}${secret.slice(1)} /mnt/data/relative`;
  await said(A, `mkdir /mnt/data/attack; cd /mnt/data; ${links}; ln -s ${up} /mnt/data/top`);
  for (const attempt of [
    'cat /mnt/data/absolute',
    'cat /mnt/data/relative',
    `cat /mnt/data/top/${secret}`,
    `cat /mnt/data/${up}${secret.slice(1)}`,
    'ls /mnt/data/../conf/../../shares',
    `ln /mnt/data/absolute /mnt/data/hard && cat /mnt/data/hard`,
  ]) {
    const { output } = await inGuest(`berth-${A}`, attempt);
    t.notMatch(output, /of the host/, attempt);
  }
  t.ok(lstatSync(join(folder, 'absolute')).isSymbolicLink(), 'it is a link on the host, and no more');
});

t.test(
  'what root in a guest makes is out of reach of users of the host',
  { skip, timeout: TEST_MS },
  async (t) => {
    const folder = await pathOf('files');
    await said(
      A,
      'cp /bin/busybox /mnt/data/suid; chown 0:0 /mnt/data/suid; chmod 4755 /mnt/data /mnt/data/suid',
    );
    t.ok(lstatSync(join(folder, 'suid')).mode & 0o4000);
    const asNobody = (...command: string[]) =>
      spawnSync('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', ...command], {
        encoding: 'utf8',
      });
    // By a shell: setpriv itself still has its rights when it looks for the program.
    t.match(asNobody('sh', '-c', `${join(folder, 'suid')} id`), { status: 126, stderr: /Permission denied/ });
    t.match(asNobody('ls', folder).stderr, /Permission denied/);
    const { output } = await inGuest(
      `berth-${A}`,
      'mknod /mnt/data/disk b 7 0; head -c 1 /mnt/data/disk; echo done',
    );
    t.match(output, /done/);
    const flags = await inGuest(`berth-${A}`, 'touch /mnt/data/fixed; chattr +i /mnt/data/fixed');
    t.not(flags.code, 0, 'nor can it make a file that root of the host could not remove');
  },
);

t.test(
  'a share comes to a guest that runs with one, and goes again; one without is left as it is',
  { skip, timeout: TEST_MS },
  async (t) => {
    const pid = qemuPid(`berth-${A}`);
    await ran('share', 'attach', 'more', A, '--read-only');
    writeFileSync(join(await pathOf('more'), 'late'), 'came late');
    const mounted = 'mount -t virtiofs more /mnt/more';
    await until('the guest has found it', TEST_MS, async () =>
      (await inGuest(`berth-${A}`, mounted)).code === 0 ? true : null,
    );
    t.equal(await said(A, 'cat /mnt/more/late'), 'came late');
    t.not((await inGuest(`berth-${A}`, 'echo x >/mnt/more/new')).code, 0);
    await said(A, 'umount /mnt/more');
    await ran('share', 'detach', 'more', A);
    t.same(await serversOf('more'), []);
    t.same((await node.call('instance.show', { id: A })).instance.drift, []);
    t.equal(qemuPid(`berth-${A}`), pid, 'in the same process');
    await node.run('instance.create', { spec: spec('e2e-bare', { nics: [] }) });
    const refused = await node.berth('share', 'attach', 'more', 'e2e-bare');
    t.match(refused, { code: 1, stderr: /started without a share[\s\S]*Stop the instance/ });
    await ran('instance', 'delete', 'e2e-bare', '--yes');
  },
);

t.test('a berthd that is killed while it attaches goes on with it', { skip, timeout: TEST_MS }, async (t) => {
  const { operation } = await node.call('share.attach', { id: 'more', instance: B });
  await node.end('SIGKILL');
  await node.start();
  t.match(await node.ended(operation), { state: 'succeeded' });
  const { instance } = await node.call('instance.show', { id: B });
  t.match(instance, { shares: [{ share: 'files' }, { share: 'more' }], drift: [] });
  t.equal(await said(B, 'cat /mnt/files/of-a'), 'hello', 'the guest goes on');
  await node.run('share.detach', { id: 'more', instance: B });
});

t.test(
  'shares come back with their guests where the database is lost',
  { skip, timeout: TEST_MS },
  async (t) => {
    await ran('share', 'configure', 'more', '--protect');
    const before = await node.call('share.list', {});
    const pid = qemuPid(`berth-${A}`);
    await node.end('SIGKILL');
    const state = join(node.folder, 'state');
    for (const name of readdirSync(state).filter((each) => each.startsWith('berth.sqlite')))
      rmSync(join(state, name));
    await node.start();
    t.same(await node.call('share.list', {}), before);
    t.equal(qemuPid(`berth-${A}`), pid);
    t.equal(await said(A, 'cat /mnt/data/of-a'), 'hello');
    await ran('share', 'configure', 'more', '--unprotect');
  },
);

t.test('a QEMU that is killed leaves no daemon of its shares', { skip, timeout: TEST_MS }, async (t) => {
  t.ok((await serversOf('conf')).length > 0);
  process.kill(qemuPid(`berth-${A}`), 'SIGKILL');
  await until('its daemons have ended', TEST_MS, async () =>
    (await serversOf('conf')).length === 0 ? true : null,
  );
  t.ok((await serversOf('files')).length > 0, 'the other guest’s goes on');
  t.equal(await said(B, 'cat /mnt/files/of-a'), 'hello');
  await node.run('instance.stop', { id: A, mode: 'forced' });
});

t.test('a share is deleted with whatever guests have put into it', { skip, timeout: TEST_MS }, async (t) => {
  // Four times as deep as a path can be long.
  const deep = [
    'cd /mnt/files; p=; i=0; while [ $i -lt 150 ]; do p="$p"dir-with-a-long-name/; i=$((i+1)); done',
    'mkdir -p x/$p && echo deep >x/"$p"file',
    'for n in 1 2 3; do mkdir -p y/$p && mv x y/$p && mv y x || exit 1; done',
  ].join('; ');
  await said(B, `${deep}; touch -- -rf "$(printf 'a\\nb')" "$(printf '\\377')"`);
  t.match(await node.berth('share', 'delete', 'files', '--yes'), { code: 1, stderr: /in use/ });
  await ran('instance', 'stop', B, '--mode', 'forced');
  for (const name of [A, B]) await ran('share', 'detach', 'files', name);
  const folder = await pathOf('files');
  await ran('share', 'delete', 'files', '--yes');
  t.notOk(existsSync(folder));
  t.equal(readFileSync(join(node.folder, 'secret'), 'utf8'), 'of the host', 'no link was followed');
  const left = execFileSync('ls', ['-A', join(folder, '..')], { encoding: 'utf8' });
  t.notMatch(left, folder.split('/').at(-1) as string);
});
