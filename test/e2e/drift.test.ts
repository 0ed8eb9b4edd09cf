/**
 * What others do to guests with virsh, on real libvirt: noticed, reported, and mended.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { DriftKind } from '../../src/model/drift.ts';
import { takeTime } from '../drivers/libvirt/lab.ts';
import { cannotRun, prepare, qemuPid, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** What libvirt tells nobody of is noticed by a sweep of 25 s; a loaded machine takes longer, ms. */
const PATIENCE_MS = 90_000;
const NAME = 'drift';
const DOMAIN = `berth-${NAME}`;
const node = new RealNode();
const disk = join(node.folder, 'theirs.raw');

takeTime(t);
t.before(async () => {
  if (skip) return;
  writeFileSync(disk, '');
  truncateSync(disk, 1024 * 1024);
  chmodSync(disk, 0o666);
  await node.start();
  await prepare(node);
  await node.run('instance.create', { spec: spec(NAME, { vcpus: 2 }) });
});
t.teardown(() => (skip ? undefined : node.remove()));

function virsh(...args: string[]): string {
  return execFileSync('virsh', ['-q', '-c', 'qemu:///system', ...args], { encoding: 'utf8' });
}

/** As `virsh edit`. */
function edit(from: string, to: string): void {
  const file = join(node.folder, 'edited.xml');
  const text = virsh('dumpxml', '--inactive', DOMAIN);
  const edited = text.replace(from, to);
  if (edited === text) throw new Error(`nothing to edit: ${from}`);
  writeFileSync(file, edited);
  virsh('define', file);
}

async function kindsOf(): Promise<DriftKind[]> {
  const { instance } = await node.call('instance.show', { id: NAME });
  return instance.drift.map(({ kind }) => kind);
}

async function untilDrift(...kinds: DriftKind[]): Promise<void> {
  const what = kinds.length === 0 ? 'no drift' : `the drift ${kinds}`;
  await until(what, PATIENCE_MS, async () => ((await kindsOf()).join() === kinds.join() ? true : null));
}

/** Mends it by hand, and sees that nothing is left of it. */
async function restore(t: Test): Promise<void> {
  t.match(await node.berth('instance', 'restore', NAME), { code: 0 });
  await untilDrift();
}

t.test('nothing that the node does itself is drift', { skip }, async (t) => {
  await node.untilAddress(NAME);
  t.same(await kindsOf(), []);
  await node.end('SIGKILL');
  await node.start();
  t.same(await kindsOf(), []);
});

t.test(
  'a change of the definition of a running guest is noticed and mended; the guest runs on',
  { skip },
  async (t) => {
    const pid = qemuPid(DOMAIN);
    const changes: [DriftKind, () => void][] = [
      ['undefined', () => virsh('undefine', DOMAIN)],
      ['size-changed', () => virsh('setvcpus', DOMAIN, '1', '--config')],
      ['disk-attached', () => virsh('attach-disk', DOMAIN, disk, 'vdy', '--config', '--subdriver', 'raw')],
      ['disk-detached', () => virsh('detach-disk', DOMAIN, 'vdb', '--config')],
      ['definition-changed', () => edit('<on_crash>destroy<', '<on_crash>restart<')],
      [
        'nic-attached',
        () =>
          edit(
            '</devices>',
            "<interface type='user'><mac address='52:54:00:99:99:99'/></interface></devices>",
          ),
      ],
    ];
    for (const [kind, change] of changes) {
      change();
      await untilDrift(kind);
      t.pass(kind);
      await restore(t);
    }
    t.equal(qemuPid(DOMAIN), pid, 'it is the same process');
  },
);

t.test('a disk attached to the running guest alone is told until its stop', { skip }, async (t) => {
  virsh('attach-disk', DOMAIN, disk, 'vdy', '--live', '--targetbus', 'virtio', '--subdriver', 'raw');
  await untilDrift('disk-attached');
  const { instance } = await node.call('instance.show', { id: NAME });
  t.match(instance.drift, [{ remedy: 'after-stop', detail: disk }]);
  virsh('destroy', DOMAIN);
  await untilDrift('stopped');
  t.match(await node.berth('instance', 'stop', NAME), { code: 0 }, 'which its user agrees with');
  await untilDrift();
});

t.test('a renamed guest gets its name back, and one that is gone is made again', { skip }, async (t) => {
  virsh('domrename', DOMAIN, 'theirs');
  await untilDrift('renamed');
  await restore(t);
  t.match(virsh('list', '--all', '--name'), DOMAIN);
  virsh('undefine', DOMAIN);
  await untilDrift('undefined');
  await restore(t);
  t.match(await node.berth('instance', 'start', NAME), { code: 0 });
  await node.untilAddress(NAME);
  t.same(await kindsOf(), []);
});

t.test('a guest that others stop, pause or start is told', { skip }, async (t) => {
  virsh('suspend', DOMAIN);
  await untilDrift('paused');
  await restore(t);
  virsh('destroy', DOMAIN);
  await untilDrift('stopped');
  await restore(t);
  t.match((await node.call('instance.show', { id: NAME })).instance.power, { state: 'running' });
  t.match(await node.berth('instance', 'stop', NAME, '--mode', 'forced'), { code: 0 });
  virsh('start', DOMAIN);
  await untilDrift('started');
  t.match(await node.berth('instance', 'start', NAME), { code: 0 });
  await untilDrift();
});

t.test(
  'by policy a definition is restored at once, and a guest runs again after a while',
  { skip },
  async (t) => {
    const pid = qemuPid(DOMAIN);
    t.match(await node.berth('instance', 'configure', NAME, '--on-drift', 'restore'), { code: 0 });
    virsh('undefine', DOMAIN);
    await until('it is persistent again', PATIENCE_MS, async () =>
      /Persistent: +yes/.test(virsh('dominfo', DOMAIN)) ? true : null,
    );
    virsh('setvcpus', DOMAIN, '1', '--config');
    await until('its CPUs are back', PATIENCE_MS, async () =>
      virsh('vcpucount', DOMAIN, '--config', '--current').trim() === '2' ? true : null,
    );
    await untilDrift();
    t.equal(qemuPid(DOMAIN), pid, 'it is the same process');
    virsh('destroy', DOMAIN);
    await untilDrift('stopped');
    await untilDrift();
    t.match((await node.call('instance.show', { id: NAME })).instance, {
      power: { state: 'running' },
      restores: { count: 3, givenUp: null },
    });
    t.match(await node.berth('instance', 'configure', NAME, '--on-drift', 'report'), { code: 0 });
  },
);

t.test('a snapshot that others take is never overwritten by our definition', { skip }, async (t) => {
  const overlay = join(node.folder, 'state/pool/volumes/theirs.qcow2');
  virsh(
    'snapshot-create-as',
    DOMAIN,
    '--disk-only',
    '--no-metadata',
    '--diskspec',
    `vda,file=${overlay}`,
    '--diskspec',
    'vdb,snapshot=no',
  );
  await until('the drift', PATIENCE_MS, async () =>
    (await kindsOf()).includes('disk-changed') ? true : null,
  );
  await t.rejects(node.run('instance.restore', { id: NAME }), {
    code: 'ILLEGAL_STATE',
    message: /another file/,
  });
  virsh('destroy', DOMAIN);
  await node.untilPower(NAME, 'stopped');
  await t.rejects(node.run('instance.start', { id: NAME }), {
    code: 'ILLEGAL_STATE',
    message: /another file/,
  });
  t.match(virsh('domblklist', DOMAIN), overlay, 'the definition is as it was');
  t.match(await node.berth('instance', 'show', NAME), { stdout: /to be mended by hand/ });
});

t.test('foreign guests are listed with their sizes, and are as they were', { skip }, async (t) => {
  const name = 'berth-test-foreign';
  const file = join(node.folder, 'foreign.xml');
  writeFileSync(
    file,
    `<domain type='qemu'><name>${name}</name><memory unit='MiB'>48</memory><vcpu>3</vcpu><os><type>hvm</type></os></domain>`,
  );
  t.teardown(() => virsh('undefine', name));
  virsh('define', file);
  const before = virsh('dumpxml', name);
  const listed = await until('it is listed', PATIENCE_MS, async () => {
    const { guests } = await node.call('node.foreign', {});
    return guests.find((guest) => guest.name === name) ?? null;
  });
  t.match(listed, { power: { state: 'stopped' }, vcpus: 3, memoryMib: 48 });
  await node.end('SIGTERM');
  await node.start();
  t.match(await node.berth('foreign'), { code: 0, stdout: name });
  t.equal(virsh('dumpxml', name), before);
});
