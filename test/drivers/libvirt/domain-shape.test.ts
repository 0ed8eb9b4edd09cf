/**
 * Domain XML that others may have written → shape, digest and metadata.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { factsOfDomain } from '../../../src/drivers/libvirt/domain-shape.ts';
import fc from '../../property.ts';

const golden = (name: string) => readFileSync(new URL(`golden/${name}.xml`, import.meta.url), 'utf8');

t.test('a definition of ours has the shape that it was made from', async (t) => {
  const { shape, metadata } = factsOfDomain(golden('uefi-kvm-full'));
  t.match(shape, { vcpus: Number, memoryMib: Number, firmware: 'uefi' });
  t.ok(
    shape.disks.every(
      ({ serial, path, format }) => serial !== null && path?.startsWith('/') && format !== null,
    ),
  );
  t.ok(
    shape.nics.every(
      ({ macAddress, bridge, tapName }) => macAddress !== '' && bridge !== null && tapName !== null,
    ),
  );
  t.not(metadata, null);
  t.equal(factsOfDomain(golden('bios-tcg')).shape.firmware, 'bios');
});

t.test('the order in which devices of one kind are listed changes nothing, all else does', async (t) => {
  const domain = (devices: string, rest = '') =>
    factsOfDomain(`<domain><name>a</name>${rest}<devices>${devices}</devices></domain>`).digest;
  const [a, b] = ["<controller type='pci' index='1'/>", "<controller type='usb'/>"];
  t.equal(domain(`${a}${b}`), domain(`\n  ${b}\n  ${a}\n`));
  t.not(domain(`${a}${b}`), domain(a));
  t.not(domain(a), domain(a.replace('1', '2')));
  t.not(domain(a), domain(a, '<on_crash>restart</on_crash>'));
});

t.test('our metadata is known by its namespace, whatever its prefix', async (t) => {
  const metadata = (inner: string) =>
    factsOfDomain(`<domain><name>a</name><metadata>${inner}</metadata></domain>`).metadata;
  t.equal(metadata("<x:instance xmlns:x='urn:berth:instance:1'>{&quot;a&quot;:1}</x:instance>"), '{"a":1}');
  t.equal(metadata("<instance xmlns='urn:berth:instance:1'>b</instance>"), 'b');
  t.equal(metadata("<x:instance xmlns:x='urn:someone:else'>c</x:instance>"), null);
  t.equal(metadata(''), null);
  t.equal(factsOfDomain('<domain/>').metadata, null);
});

t.test('a generation ID is read where it is one', async (t) => {
  const read = (inner: string) => factsOfDomain(`<domain><name>a</name>${inner}</domain>`).generationId;
  const id = '3f1c2f0a-8a52-4c63-9d2c-5f6a1f5c0002';
  t.equal(read(`<genid>${id}</genid>`), id);
  t.equal(factsOfDomain(golden('uefi-tcg')).generationId, id);
  for (const none of ['', '<genid/>', `<genid>${id}0</genid>`, '<genid>../../etc</genid>'])
    t.equal(read(none), null, none);
});

t.test('disks and NICs that no definition of ours has are seen with what is known of them', async (t) => {
  const { shape } =
    factsOfDomain(`<domain><vcpu current='2'>4</vcpu><memory unit='KiB'>65536</memory><devices>
    <disk type='network'><source protocol='nbd' name='x'/></disk>
    <disk type='block'><driver type='raw'/><source dev='/dev/vg/lv'/><readonly/></disk>
    <disk/>
    <interface type='network'><mac address='52:54:00:AA:BB:CC'/><source network='default'/></interface>
    <interface/></devices></domain>`);
  t.same(shape, {
    name: '',
    vcpus: 2,
    memoryMib: 64,
    firmware: 'bios',
    disks: [
      { serial: null, path: null, format: null, readOnly: false },
      { serial: null, path: '/dev/vg/lv', format: 'raw', readOnly: true },
      { serial: null, path: null, format: null, readOnly: false },
    ],
    nics: [
      { macAddress: '52:54:00:aa:bb:cc', bridge: null, tapName: null },
      { macAddress: '', bridge: null, tapName: null },
    ],
  });
});

t.test('any nesting of elements is read or refused as no XML', async (t) => {
  const name = fc.constantFrom(
    'domain',
    'devices',
    'disk',
    'interface',
    'metadata',
    'vcpu',
    'os',
    'source',
    'mac',
  );
  const element = (inner: fc.Arbitrary<string>) =>
    fc.tuple(name, inner).map(([tag, text]) => `<${tag} a='1'>${text}</${tag}>`);
  const tree = fc.letrec<{ node: string }>((tie) => ({
    node: fc.oneof(
      { maxDepth: 4 },
      element(fc.constant('')),
      element(fc.array(tie('node'), { maxLength: 3 }).map((nodes) => nodes.join(''))),
    ),
  })).node;
  fc.assert(fc.property(tree, (text) => factsOfDomain(text).digest.length === 64));
  t.pass('all of them');
});
