/**
 * The probe of KVM, with a real QEMU.
 */
import { readdir } from 'node:fs/promises';
import t from 'tap';
import { type Exec, HostExec } from '../../../src/drivers/host/exec.ts';
import { probeAcceleration, runProbe } from '../../../src/drivers/libvirt/acceleration.ts';
import { isThere } from './lab.ts';

const emulator = '/usr/bin/qemu-system-x86_64';
const exec = new HostExec();
const skip = (await isThere(emulator)) ? false : `${emulator} is not installed`;
const hasKvm = await isThere('/dev/kvm');

t.test('without the device KVM is absent, and nothing is started', async (t) => {
  const never: Exec = { run: () => Promise.reject(new Error('nothing may be started')) };
  const probe = { exec: never, emulator, isListed: true, devicePath: '/dev/no-such-device' };
  t.match(await probeAcceleration(probe), { acceleration: 'absent', reason: /no-such-device/ });
});

t.test('a device that libvirt does not offer is unusable, and nothing is started', async (t) => {
  const never: Exec = { run: () => Promise.reject(new Error('nothing may be started')) };
  const verdict = await probeAcceleration({
    exec: never,
    emulator,
    isListed: false,
    devicePath: '/dev/null',
  });
  t.match(verdict, { acceleration: 'kvm-unusable', reason: /does not offer/ });
});

t.test('the code of the probe runs to its end under TCG, which proves the code', { skip }, async (t) => {
  t.equal(await runProbe({ exec, emulator }, 'tcg'), null);
});

t.test(
  'a device that is there and does not work is unusable, with the words of QEMU',
  {
    skip: skip || (hasKvm && 'this machine has /dev/kvm, so QEMU would find it'),
  },
  async (t) => {
    const verdict = await probeAcceleration({ exec, emulator, isListed: true, devicePath: '/dev/null' });
    t.match(verdict, { acceleration: 'kvm-unusable', reason: /KVM/ });
  },
);

t.test('a probe that hangs is ended at its deadline, and says so', { skip }, async (t) => {
  // A machine that waits for a debugger never begins to run: the same as one that hangs.
  const frozen: Exec = { run: (program, args, options) => exec.run(program, [...args, '-S'], options) };
  const outcome = await runProbe({ exec: frozen, emulator }, 'tcg', { timeoutMs: 1_000 });
  t.match(outcome, /1000 ms/);
});

t.test('no probe leaves a file behind', { skip }, async (t) => {
  const folder = t.testdir();
  const before = process.env['TMPDIR'];
  process.env['TMPDIR'] = folder;
  t.teardown(() => {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
  });
  await runProbe({ exec, emulator }, 'tcg');
  t.same(await readdir(folder), []);
});
