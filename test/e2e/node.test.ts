/**
 * A node on real libvirt, QEMU, bridges and disks, from the image to the last trace.
 */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { cannotRun, hostTraces, prepare, qemuPid, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const node = new RealNode();

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
});
t.teardown(() => (skip ? undefined : node.remove()));

t.test(
  'an instance boots, reads its seed, gets its address, and says so',
  { skip, timeout: TEST_MS },
  async (t) => {
    const created = await node.run('instance.create', {
      spec: spec('e2e', {
        userData: '#!/bin/sh\necho USER-DATA-RAN\n',
        sshAuthorizedKeys: ['ssh-ed25519 AAAA test'],
      }),
    });
    t.match(created, { state: 'succeeded', error: null });
    t.equal(await node.untilAddress('e2e'), node.firstAddress);
    const { instance } = await node.call('instance.show', { id: 'e2e' });
    t.match(instance, { lifecycle: 'ready', power: { state: 'running' } });
    const text = await until('the user-data has run', TEST_MS, async () => {
      const { text } = await node.call('instance.console', { id: 'e2e' });
      return text.includes('USER-DATA-RAN') ? text : null;
    });
    t.match(text, `BERTH-GUEST-READY hostname=e2e instance-id=${instance.id} ip=${node.firstAddress}`);
    t.doesNotThrow(
      () => execFileSync('busybox', ['ping', '-c', '1', '-W', '10', node.firstAddress]),
      'it answers a ping',
    );
  },
);

t.test(
  'kill -9 of berthd leaves the guest alone, and the next berthd has it again',
  { skip, timeout: TEST_MS },
  async (t) => {
    const pid = qemuPid('berth-e2e');
    await node.end('SIGKILL');
    t.doesNotThrow(() => process.kill(pid, 0), 'QEMU runs on');
    await node.start();
    t.match((await node.call('instance.show', { id: 'e2e' })).instance.power, { state: 'running' });
    t.equal(qemuPid('berth-e2e'), pid);
  },
);

t.test('the CLI stops, starts and reboots it', { skip, timeout: TEST_MS }, async (t) => {
  const state = async () => (await node.call('instance.show', { id: 'e2e' })).instance.power.state;
  t.match(await node.berth('instance', 'reboot', 'e2e'), { code: 0 });
  await node.untilAddress('e2e');
  t.match(await node.berth('instance', 'stop', 'e2e'), { code: 0 });
  t.equal(await state(), 'stopped');
  t.match(await node.berth('instance', 'start', 'e2e'), { code: 0 });
  t.equal(await state(), 'running');
  await node.untilAddress('e2e');
});

t.test(
  'a guest that shuts itself down, or that others destroy, is noticed by events',
  { skip, timeout: TEST_MS },
  async (t) => {
    execFileSync('virsh', ['-q', '-c', 'qemu:///system', 'destroy', 'berth-e2e']);
    await node.untilPower('e2e', 'stopped');
    execFileSync('virsh', ['-q', '-c', 'qemu:///system', 'start', 'berth-e2e']);
    await node.untilPower('e2e', 'running');
    t.pass('both were noticed');
  },
);

t.test('a delete leaves nothing of it on the host', { skip, timeout: TEST_MS }, async (t) => {
  const { instance } = await node.call('instance.show', { id: 'e2e' });
  t.match(await node.berth('instance', 'delete', 'e2e', '--yes'), { code: 0 });
  for (const name of [instance.id, instance.nics[0]?.tapName as string]) t.same(hostTraces(name), [], name);
  t.same(node.poolFiles().filter((name) => !name.includes('json')).length, 1, 'only the image is left');
});

t.test('an instance with UEFI boots as well', { skip, timeout: TEST_MS }, async (t) => {
  await node.must('instance.create', { spec: spec('e2e-uefi', { firmware: 'uefi' }) });
  t.equal(await node.untilAddress('e2e-uefi'), node.firstAddress);
  t.equal((await node.run('instance.delete', { id: 'e2e-uefi' })).state, 'succeeded');
});
