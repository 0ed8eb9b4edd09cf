/**
 * Domain XML: golden files, what a real libvirtd makes of them, and hostile values.
 *
 * To write the golden files anew after a wanted change: BERTH_UPDATE_GOLDEN=1, then read the difference.
 */
import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { connect, constants } from 'node-libvirt';
import t from 'tap';
import type { GuestDefinition, GuestShare } from '../../../src/drivers/contracts/hypervisor.ts';
import {
  domainXml,
  type GuestPlatform,
  METADATA_NAMESPACE,
} from '../../../src/drivers/libvirt/domain-xml.ts';
import { attributeOf, elementsAt, readXml, textOf } from '../../../src/drivers/host/xml-read.ts';
import fc from '../../property.ts';
import { NAME_PREFIX, whyNotHere } from './lab.ts';

const TCG: GuestPlatform = {
  accelerator: 'tcg',
  emulator: '/usr/bin/qemu-system-x86_64',
  machine: 'pc-q35-7.2',
  bufferedPaths: new Set(),
  readOnlyProgram: '/usr/sbin/berth-virtiofsd-readonly',
};
const KVM: GuestPlatform = { ...TCG, accelerator: 'kvm' };

const SMALL: GuestDefinition = {
  id: '3f1c2f0a-8a52-4c63-9d2c-5f6a1f5c0001',
  name: `${NAME_PREFIX}golden`,
  vcpus: 1,
  memoryMib: 256,
  firmware: 'bios',
  disks: [{ serial: 'root', path: '/srv/berth/a.raw', format: 'raw', readOnly: false, backing: null }],
  nics: [],
  consoleLogPath: null,
  metadata: '{"generation":1}',
};

const FULL: GuestDefinition = {
  ...SMALL,
  vcpus: 4,
  memoryMib: 2048,
  disks: [
    {
      serial: 'vol-0123456789abcdef',
      path: '/srv/berth/volumes/root.qcow2',
      format: 'qcow2',
      readOnly: false,
      backing: { path: '/srv/berth/images/debian.qcow2', format: 'qcow2' },
    },
    {
      serial: 'data',
      path: '/srv/berth/volumes/data.qcow2',
      format: 'qcow2',
      readOnly: false,
      backing: null,
    },
    { serial: 'seed', path: '/srv/berth/seeds/one.iso', format: 'raw', readOnly: true, backing: null },
  ],
  nics: [
    { macAddress: '52:54:00:12:34:56', bridge: 'berth0', tapName: 'bt0123456789a' },
    { macAddress: '52:54:00:12:34:57', bridge: 'berth1', tapName: 'bt0123456789b' },
  ],
  consoleLogPath: '/var/log/berth/consoles/one.log',
  watchdog: 'reset',
  metadata: JSON.stringify({ text: `<a b="c">&amp; ]]> 'quoted'</a>\n\tπ 🐢 \\` }),
};

const ANOTHER = '3f1c2f0a-8a52-4c63-9d2c-5f6a1f5c0002';

const SHARES: GuestShare[] = [
  { tag: 'data', path: '/srv/berth/shares/one', readOnly: false },
  { tag: 'config.v2', path: '/srv/berth/shares/two', readOnly: true },
];

const GOLDEN: Record<string, string> = {
  'bios-tcg': domainXml(SMALL, TCG),
  'bios-tcg-full': domainXml(FULL, TCG),
  'bios-tcg-shares': domainXml({ ...SMALL, shares: SHARES }, TCG),
  'uefi-tcg': domainXml({ ...SMALL, firmware: 'uefi', generationId: ANOTHER }, TCG),
  'uefi-kvm-full': domainXml({ ...FULL, firmware: 'uefi' }, KVM),
  'bios-kvm-buffered': domainXml(SMALL, { ...KVM, bufferedPaths: new Set(['/srv/berth/a.raw']) }),
};

t.test('each kind of definition is written as its golden file says', async (t) => {
  for (const [name, xml] of Object.entries(GOLDEN)) {
    const file = new URL(`golden/${name}.xml`, import.meta.url);
    if (process.env['BERTH_UPDATE_GOLDEN'] === '1') await writeFile(file, xml);
    t.equal(xml, await readFile(file, 'utf8'), name);
  }
});

const reason = await whyNotHere();

t.test('libvirt validates and accepts every golden file', { skip: reason }, async (t) => {
  await using connection = await connect('qemu:///system');
  for (const [name, xml] of Object.entries(GOLDEN)) {
    // KVM is not there on every machine of the tests; all else is the same.
    const offered = xml.replace("<domain type='kvm'>", "<domain type='qemu'>");
    const fresh = offered.replace(SMALL.id, randomUUID()).replace("mode='host-model'", "mode='maximum'");
    const checked = fresh.replace(" check='partial'", '');
    const domain = await connection.domainDefineXMLFlags(
      checked,
      constants.virDomainDefineFlags.VIR_DOMAIN_DEFINE_VALIDATE,
    );
    const back = await domain.getXMLDesc(constants.virDomainXMLFlags.VIR_DOMAIN_XML_INACTIVE);
    await domain.undefineFlags(constants.virDomainUndefineFlagsValues.VIR_DOMAIN_UNDEFINE_NVRAM);
    t.equal(
      elementsAt(readXml(back), 'devices', 'interface').length,
      elementsAt(readXml(xml), 'devices', 'interface').length,
      name,
    );
    t.same(tapNames(back), tapNames(xml), 'and keeps the names of the taps');
  }
});

/** Any text that XML can hold; the rest is refused (below). */
const anyText = fc
  .string({ unit: 'grapheme', maxLength: 60 })
  .filter((text) => /^[\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]*$/u.test(text));
const hostileText = fc.oneof(
  anyText,
  fc.constantFrom(`' onload='`, `"/><disk type='file'>`, ']]>', '<!--', '&lt;', '&#10;', '\r\n\t', '<?x?>'),
);

t.test('hostile text stays text: parsed back, it equals what was given', async (t) => {
  fc.assert(
    fc.property(hostileText, hostileText, hostileText, (name, metadata, path) => {
      const disk = { ...SMALL.disks[0]!, path: `/${path}` };
      const xml = domainXml({ ...SMALL, name, metadata, disks: [disk], consoleLogPath: path }, TCG);
      const root = readXml(xml);
      const only = (...names: string[]) => elementsAt(root, ...names)[0]!;
      return (
        textOf(only('name')) === name &&
        textOf(only('metadata', 'berth:instance')) === metadata &&
        attributeOf(only('metadata', 'berth:instance'), 'xmlns:berth') === METADATA_NAMESPACE &&
        elementsAt(root, 'devices', 'disk').length === 1 &&
        attributeOf(only('devices', 'disk', 'source'), 'file') === `/${path}` &&
        attributeOf(only('devices', 'serial', 'log'), 'file') === path
      );
    }),
    { numRuns: 500 },
  );
  t.pass('500 definitions');
});

t.test('what no XML can hold is refused, and so is what the host would cut, drop or misread', async (t) => {
  const disk = SMALL.disks[0]!;
  const nic = FULL.nics[0]!;
  const refused: [string, Partial<GuestDefinition>][] = [
    ['a NUL in the metadata', { metadata: 'a\0b' }],
    ['half of a surrogate pair in the name', { name: 'a\ud800' }],
    ['a serial that virtio-blk would cut', { disks: [{ ...disk, serial: 'x'.repeat(21) }] }],
    ['a serial with a quote', { disks: [{ ...disk, serial: "a'b" }] }],
    ['a relative path', { disks: [{ ...disk, path: 'a.raw' }] }],
    [
      'a relative backing path',
      { disks: [{ ...disk, format: 'qcow2', backing: { path: 'b', format: 'raw' } }] },
    ],
    ['a raw disk with a backing file', { disks: [{ ...disk, backing: { path: '/b', format: 'raw' } }] }],
    ['a tap name that is too long', { nics: [{ ...nic, tapName: 'x'.repeat(16) }] }],
    ['a tap name that libvirt would replace', { nics: [{ ...nic, tapName: 'vnet7' }] }],
    ['a bridge with a slash', { nics: [{ ...nic, bridge: '../x' }] }],
  ];
  for (const [what, changes] of refused) {
    t.throws(() => domainXml({ ...SMALL, ...changes }, TCG), { code: 'INVALID_ARGUMENT' }, what);
  }
});

function tapNames(xml: string): (string | null)[] {
  return elementsAt(readXml(xml), 'devices', 'interface', 'target').map((target) =>
    attributeOf(target, 'dev'),
  );
}

t.test('a watchdog does what was asked for; one that only reports has libvirt’s word for it', async (t) => {
  const deviceOf = (watchdog?: GuestDefinition['watchdog']) =>
    /<watchdog .*>/.exec(domainXml({ ...SMALL, ...(watchdog && { watchdog }) }, TCG))?.[0];
  t.equal(deviceOf('poweroff'), "<watchdog model='i6300esb' action='poweroff'/>");
  t.equal(deviceOf('pause'), "<watchdog model='i6300esb' action='pause'/>");
  t.equal(deviceOf('report'), "<watchdog model='i6300esb' action='none'/>");
  for (const none of ['none', undefined] as const) t.equal(deviceOf(none), undefined);
});
