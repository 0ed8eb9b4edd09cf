/**
 * Volumes on a real node: plugged into a guest that runs, written by it, grown and limited under it, and taken back.
 *
 * The guest tells of its disks on its console, each by the serial that it sees, and writes to those that are new.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cannotRun, prepare, qemuPid, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const SECTORS_PER_GIB = 2 * 1024 ** 2;
const WRITTEN_BYTES = 4 * 1024 ** 2;
/** How long QEMU closes a file in the test of that. */
const CLOSE_MS = 5_000;
const node = new RealNode();

/**
 * Serials of virtio disks are files; those of SCSI disks are pages of their product data, after four bytes.
 *
 * A disk may come at any moment: a pattern that matched nothing must not be looked at again as one that does, and the
 * kernel names a disk before it can be opened.
 */
const TELL_OF_DISKS = `#!/bin/sh
disks() {
  cd /sys/block && ls | grep -E '^(vd[b-z]|sd[a-z])$'
}
serial() {
  [ -e "/sys/block/$1/serial" ] && cat "/sys/block/$1/serial" && return
  [ -e "/sys/block/$1/device/vpd_pg80" ] && tail -c +5 "/sys/block/$1/device/vpd_pg80"
}
write() {
  head -c ${WRITTEN_BYTES} /dev/urandom >/run/written
  until [ -b "/dev/$1" ] && dd if=/run/written of="/dev/$1" bs=64k conv=fsync 2>/dev/null; do
    [ -e "/sys/block/$1" ] || return
    sleep 1
  done
  set -- "$2" $(sha256sum /run/written)
  echo "WROTE $1 $2"
}
while :; do
  for disk in $(disks); do
    name=$(serial "$disk")
    [ -z "$name" ] || [ "$name" = seed ] && continue
    is="DISK $name $(cat "/sys/block/$disk/size")"
    grep -qx "$is" /run/told 2>/dev/null && continue
    grep -q "DISK $name " /run/told 2>/dev/null || write "$disk" "$name"
    echo "$is" >>/run/told
    echo "$is"
  done
  for name in $(cut -d' ' -f2 /run/told 2>/dev/null | sort -u); do
    for disk in $(disks); do
      [ "$(serial "$disk")" = "$name" ] && continue 2
    done
    sed -i "/ $name /d" /run/told
    echo "GONE $name"
  done
  sleep 1
done </dev/null >/dev/console 2>&1 &
`;

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
  const made = await node.run('instance.create', { spec: spec('e2e-disks', { userData: TELL_OF_DISKS }) });
  if (made.state !== 'succeeded') throw new Error(made.error?.message);
  await node.untilAddress('e2e-disks');
});
t.teardown(() => (skip ? undefined : node.remove()));

/** Waits until the guest has said so. @returns what the first group of the pattern holds */
async function said(pattern: RegExp): Promise<string> {
  return until(String(pattern), TEST_MS, async () => {
    const { text } = await node.call('instance.console', { id: 'e2e-disks' });
    const match = pattern.exec(text);
    return match === null ? null : (match[1] ?? '');
  });
}

async function serialOf(volume: string): Promise<string> {
  return (await node.call('volume.show', { id: volume })).volume.id.replaceAll('-', '').slice(0, 20);
}

async function fileOf(volume: string): Promise<string> {
  const { id } = (await node.call('volume.show', { id: volume })).volume;
  return join(node.folder, 'state/pool/volumes', `${id}.qcow2`);
}

function virsh(command: string, ...args: string[]): string {
  return execFileSync('virsh', ['-q', '-c', 'qemu:///system', command, 'berth-e2e-disks', ...args], {
    encoding: 'utf8',
  });
}

/** Has QEMU take its time to close a file. @returns what ends that */
async function closesSlowly(pid: number, path: string): Promise<() => Promise<void>> {
  const injected = ['-e', 'trace=close', '-e', `inject=close:delay_enter=${CLOSE_MS * 1000}`];
  const tracer = spawn('strace', ['-f', '-o', '/dev/null', '-P', path, ...injected, '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await once(tracer.stderr, 'data'); // "Process N attached"
  return async () => {
    tracer.kill('SIGINT');
    await once(tracer, 'exit');
  };
}

/** @returns how many descriptors of a process are of that file */
function descriptorsOf(pid: number, path: string): number {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((name) => linkOf(join(folder, name)) === path).length;
}

/** @returns what it leads to; null where it has gone meanwhile */
function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

/** SHA-256 of the beginning of a volume, as its export has it. */
async function digestOf(volume: string): Promise<string> {
  const path = join(node.folder, `${volume}.raw`);
  t.match(await node.berth('volume', 'export', volume, path, '--format', 'raw'), { code: 0 });
  const bytes = execFileSync('head', ['-c', String(WRITTEN_BYTES), path], { maxBuffer: 2 * WRITTEN_BYTES });
  rmSync(path);
  return createHash('sha256').update(bytes).digest('hex');
}

for (const bus of ['virtio', 'scsi'] as const) {
  t.test(
    `a ${bus} disk comes to a guest that runs, is written by it, grows, and goes with what was written`,
    { skip, timeout: TEST_MS },
    async (t) => {
      const pid = qemuPid('berth-e2e-disks');
      const volume = `data-${bus}`;
      t.match(await node.berth('volume', 'create', volume, '--size-gib', '1'), { code: 0 });
      const serial = await serialOf(volume);
      t.match(await node.berth('volume', 'attach', volume, 'e2e-disks', '--bus', bus), { code: 0 });
      await said(new RegExp(`DISK ${serial} ${SECTORS_PER_GIB}\\b`));
      const written = await said(new RegExp(`WROTE ${serial} ([0-9a-f]{64})`));
      t.match(await node.berth('volume', 'grow', volume, '--size-gib', '2'), { code: 0 });
      await said(new RegExp(`DISK ${serial} ${2 * SECTORS_PER_GIB}\\b`));
      t.match(await node.berth('volume', 'configure', volume, '--limit', 'iops=500:900:5'), { code: 0 });
      t.match(
        virsh('blkdeviotune', await fileOf(volume)),
        /total_iops_sec *: 500\n[\s\S]*total_iops_sec_max *: 900\n[\s\S]*total_iops_sec_max_length *: 5\n/,
      );
      t.match(await node.berth('volume', 'configure', volume, '--no-limits'), { code: 0 });
      t.match(virsh('blkdeviotune', await fileOf(volume)), /total_iops_sec *: 0\n/);
      t.same((await node.call('instance.show', { id: 'e2e-disks' })).instance.drift, []);
      t.match(await node.berth('volume', 'detach', volume), { code: 0 });
      await said(new RegExp(`GONE ${serial}`));
      t.equal(await digestOf(volume), written);
      t.equal(qemuPid('berth-e2e-disks'), pid, 'in the same process');
      t.match(await node.berth('volume', 'delete', volume, '--yes'), { code: 0 });
    },
  );
}

const detach = async () => t.match(await node.berth('volume', 'detach', 'closed'), { code: 0 });
const detachOverCrash = async () => {
  const { operation } = await node.call('volume.detach', { id: 'closed' });
  await node.end('SIGKILL');
  await node.start();
  t.match(await node.ended(operation), { state: 'succeeded' });
};

for (const [when, detached] of [
  ['', detach],
  [', over a crash of berthd', detachOverCrash],
] as const) {
  t.test(
    `a volume is detached once QEMU has closed its file, though libvirt names the disk no more before${when}`,
    { skip, timeout: TEST_MS },
    async (t) => {
      const pid = qemuPid('berth-e2e-disks');
      t.match(await node.berth('volume', 'create', 'closed', '--size-gib', '1'), { code: 0 });
      t.match(await node.berth('volume', 'attach', 'closed', 'e2e-disks'), { code: 0 });
      const path = await fileOf('closed');
      await said(new RegExp(`WROTE ${await serialOf('closed')}`));
      t.not(descriptorsOf(pid, path), 0);
      const endSlowness = await closesSlowly(pid, path);
      virsh('suspend'); // It lets nothing go, and libvirt's call gives up waiting: what comes later is an event's work.
      virsh('detach-disk', path, '--live');
      virsh('resume');
      await until('libvirt names it no more', TEST_MS, async () =>
        virsh('domblklist').includes(path) ? null : true,
      );
      await detached();
      t.equal(descriptorsOf(pid, path), 0);
      await endSlowness();
      t.match(await node.berth('volume', 'delete', 'closed', '--yes'), { code: 0 });
    },
  );
}

t.test(
  'disks attached while it runs are there after a stop, a start and a crash of berthd',
  { skip, timeout: TEST_MS },
  async (t) => {
    for (const volume of ['one', 'two', 'three'])
      t.match(await node.berth('volume', 'create', volume, '--size-gib', '1'), { code: 0 });
    t.match(await node.berth('volume', 'attach', 'one', 'e2e-disks', '--iothread'), { code: 0 });
    t.match(await node.berth('volume', 'attach', 'two', 'e2e-disks', '--bus', 'scsi'), { code: 0 });
    const { operation } = await node.call('volume.attach', { id: 'three', instance: 'e2e-disks' });
    await node.end('SIGKILL');
    await node.start();
    t.match(await node.ended(operation), { state: 'succeeded' });
    const serials = await Promise.all(['one', 'two', 'three'].map(serialOf));
    for (const serial of serials) await said(new RegExp(`WROTE ${serial}`));
    t.match(await node.berth('instance', 'stop', 'e2e-disks', '--mode', 'forced'), { code: 0 });
    t.match(await node.berth('volume', 'detach', 'two'), { code: 0 });
    t.match(await node.berth('instance', 'start', 'e2e-disks'), { code: 0 });
    const { instance } = await node.call('instance.show', { id: 'e2e-disks' });
    t.match(
      instance.disks.map(({ volume }) => volume),
      ['e2e-disks-disk0', 'one', 'three'],
    );
    t.same(instance.drift, []);
    await node.untilAddress('e2e-disks');
    t.match(await node.berth('volume', 'detach', 'one'), { code: 0 }, 'once its kernel is up');
  },
);

t.test(
  'a guest that hangs gets no disk, and can be stopped by force after',
  { skip, timeout: TEST_MS },
  async (t) => {
    process.kill(qemuPid('berth-e2e-disks'), 'SIGSTOP');
    t.match(await node.berth('volume', 'attach', 'two', 'e2e-disks'), {
      code: 1,
      stderr: /no answer from libvirt/,
    });
    t.match(await node.berth('instance', 'stop', 'e2e-disks', '--mode', 'forced'), { code: 0 });
    t.match((await node.call('volume.show', { id: 'two' })).volume, { instanceId: null });
  },
);
