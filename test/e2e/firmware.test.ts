/**
 * Firmware variables of a UEFI guest on a real node: OVMF's, over snapshots of its disks and of its memory.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cannotRun, prepare, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** OVMF under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 600_000;
const node = new RealNode();

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
});
t.teardown(() => (skip ? undefined : node.remove()));

async function ok(...args: string[]): Promise<void> {
  const { code, stderr } = await node.berth(...args);
  if (code !== 0) throw new Error(`berth ${args.join(' ')}: ${stderr}`);
}

t.test(
  'a UEFI guest goes back with its firmware variables, those of its disks alone and those of its memory',
  { skip, timeout: TEST_MS },
  async (t) => {
    const name = 'e2e-uefi';
    const nvram = `/var/lib/libvirt/qemu/nvram/berth-${name}_VARS.fd`;
    const change = () => {
      const bytes = readFileSync(nvram);
      // Beyond the variables, in what OVMF keeps in reserve.
      writeFileSync(nvram, bytes.fill(0x53, bytes.length - 4096));
    };
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
