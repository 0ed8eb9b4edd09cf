import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { GuestDefinition } from '../../../src/drivers/contracts/hypervisor.ts';
import { domainXml } from '../../../src/drivers/libvirt/domain-xml.ts';
import { keptPathsIn, listKeptIn, usesOf } from '../../../src/drivers/libvirt/uses.ts';
import fc from '../../property.ts';

const PLATFORM = {
  accelerator: 'tcg',
  emulator: '/usr/bin/qemu-system-x86_64',
  machine: 'pc-q35-7.2',
  bufferedPaths: new Set<string>(),
  readOnlyProgram: '/usr/sbin/berth-virtiofsd-readonly',
} as const;

t.test('every path and device of whatever kind counts as used', async (t) => {
  const { files, devices } = usesOf(`<domain type='kvm'>
    <name>vm</name>
    <os><loader>/fw/code.fd</loader><nvram template='/fw/vars.fd'>/keep/vm_VARS.fd</nvram><kernel>/boot/vmlinuz</kernel></os>
    <metadata><x:y xmlns:x='urn:x'>no path</x:y></metadata>
    <devices>
      <disk type='block'><source dev='/dev/vg/lv'/></disk>
      <disk type='file' device='cdrom'><source file='/iso/a &amp; b.iso'/></disk>
      <disk type='volume'><source pool='images' volume='vol.qcow2'/></disk>
      <disk type='file'><source file='/d/top.qcow2'/>
        <backingStore type='file'><source file='/d/mid.qcow2'/>
          <backingStore type='file'><source file='/d/base.qcow2'/><backingStore/></backingStore>
        </backingStore>
      </disk>
      <filesystem type='mount'><source dir='/srv/share'/><target dir='tag'/></filesystem>
      <serial type='file'><source path='/log/serial.log'/></serial>
      <interface type='bridge'><source bridge='br0'/><target dev='bt-1'/></interface>
      <interface type='user'/>
    </devices>
  </domain>`);
  for (const path of [
    '/fw/code.fd',
    '/fw/vars.fd',
    '/keep/vm_VARS.fd',
    '/boot/vmlinuz',
    '/dev/vg/lv',
    '/iso/a & b.iso',
    'vol.qcow2',
    '/d/top.qcow2',
    '/d/mid.qcow2',
    '/d/base.qcow2',
    '/srv/share',
    '/log/serial.log',
  ]) {
    t.ok(files.includes(path), path);
  }
  t.same(devices, ['bt-1']);
});

t.test('whatever a definition of ours names is among what its domain uses', async () => {
  const path = fc.string({ minLength: 1, unit: 'grapheme-ascii' }).map((text) => `/p/x${text.trim()}x`);
  fc.assert(
    fc.property(path, path, path, (disk, base, log) => {
      const definition: GuestDefinition = {
        id: '11111111-1111-4111-8111-111111111111',
        name: 'berth-x',
        vcpus: 1,
        memoryMib: 64,
        firmware: 'bios',
        disks: [
          {
            serial: 's',
            path: disk,
            format: 'qcow2',
            readOnly: false,
            backing: { path: base, format: 'raw' },
          },
        ],
        nics: [{ macAddress: '52:54:00:00:00:01', bridge: 'bb-1', tapName: 'bt-1' }],
        consoleLogPath: log,
        metadata: '{}',
      };
      const { files, devices } = usesOf(domainXml(definition, PLATFORM));
      return [disk, base, log].every((one) => files.includes(one)) && devices.includes('bt-1');
    }),
    { seed: 7, numRuns: 500 },
  );
});

t.test(
  'kept files are listed by the guest that they are named for; folders that are not there hold none',
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'glv-kept-'));
    t.teardown(() => rm(folder, { recursive: true }));
    t.same(await listKeptIn(folder), []);
    const paths = keptPathsIn(folder, 'berth-web');
    for (const [kind, path] of Object.entries(paths)) {
      await mkdir(join(path, '..'));
      await writeFile(path, kind);
      await writeFile(join(path, '..', 'README'), 'not one of them');
    }
    t.match(await listKeptIn(folder), [
      { kind: 'nvram', path: paths.nvram, guestName: 'berth-web' },
      { kind: 'saved-memory', path: paths['saved-memory'], guestName: 'berth-web' },
    ]);
  },
);
