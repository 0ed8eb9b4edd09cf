/** OVAs: the disk is read in its place, the hardware is read from the envelope, and neither is believed. */
import { randomUUID } from 'node:crypto';
import { stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { readOvf } from '../../../src/drivers/qcow2/ovf.ts';
import { exec, MIB, makeFolder, makePool, makeQcow2, patch, refuses } from './fixtures.ts';
import { ovfEnvelope } from './ovf-sample.ts';

const sources = await makeFolder(t);
const sound = await makeQcow2(join(sources, 'sound.qcow2'));
await exec.run('qemu-img', [
  ...['convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized'],
  ...[sound, join(sources, 'disk-1.vmdk')],
]);

async function ova(
  envelope: string,
  files: string[] = ['web.ovf', 'disk-1.vmdk'],
  tarOptions: string[] = [],
): Promise<string> {
  await writeFile(join(sources, 'web.ovf'), envelope);
  const path = join(sources, `${randomUUID()}.ova`);
  await exec.run('tar', ['-C', sources, '--format=ustar', ...tarOptions, '-cf', path, ...files]);
  return path;
}

async function isRefused(t: Test, source: string, reason: RegExp) {
  const { pool } = await makePool(t);
  const request = { id: randomUUID(), source, format: 'ova', sha256: null } as const;
  await refuses(t, pool.makeImage(request), 'IMAGE_REFUSED', reason);
  t.same(await pool.list(), []);
}

t.test('the disk of an OVA is kept as qcow2, and its hardware with it', async (t) => {
  const { pool } = await makePool(t);
  for (const options of [[], ['--format=gnu']]) {
    const id = randomUUID();
    const source = await ova(ovfEnvelope(), ['web.ovf', 'disk-1.vmdk'], options);
    const facts = await pool.makeImage({ id, source, format: 'ova', sha256: null });
    t.match(facts, {
      virtualSizeBytes: 4 * MIB,
      hardware: {
        name: 'Web & Mail',
        vcpus: 2,
        memoryMib: 2048,
        firmware: 'uefi',
        operatingSystem: 'Debian GNU/Linux 12 (64-bit)',
        disks: [{ file: 'disk-1.vmdk', sizeBytes: 4 * MIB, bus: 'scsi' }],
        nics: [{ network: 'VM Network', model: 'VmxNet3' }],
      },
    });
    const kept = pool.paths.image(id, 'qcow2');
    await exec.run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', sound, kept]);
    t.same(await pool.lookImage(id, 'qcow2'), facts, 'the hardware is in the record');
    await pool.removeImage(id, 'qcow2');
  }
});

t.test('a disk that is not there, packed, or twice there is refused', async (t) => {
  await isRefused(
    t,
    await ova(ovfEnvelope({ href: '../../etc/shadow' })),
    /not one file "..\/..\/etc\/shadow"/,
  );
  await isRefused(t, await ova(ovfEnvelope({ href: '/etc/shadow' })), /not one file "\/etc\/shadow"/);
  await isRefused(t, await ova(ovfEnvelope(), ['web.ovf']), /not one file "disk-1.vmdk"/);
  await isRefused(
    t,
    await ova(ovfEnvelope(), ['web.ovf', 'disk-1.vmdk', 'disk-1.vmdk'], ['--hard-dereference']),
    /not one file/,
  );
  await isRefused(t, await ova(ovfEnvelope({ file: 'ovf:compression="gzip"' })), /is packed/);
  const { pool } = await makePool(t);
  const second = {
    id: randomUUID(),
    source: await ova(ovfEnvelope()),
    format: 'ova',
    sha256: null,
    disk: 1,
  } as const;
  await refuses(t, pool.makeImage(second), 'IMAGE_REFUSED', /no disk 1, only 1/);
});

t.test('a symbolic link in the archive is no disk', async (t) => {
  await exec.run('ln', ['-sf', '/etc/shadow', join(sources, 'link.vmdk')]);
  await isRefused(
    t,
    await ova(ovfEnvelope({ href: 'link.vmdk' }), ['web.ovf', 'link.vmdk']),
    /not one file "link.vmdk"/,
  );
});

t.test('an archive that is cut short, damaged, or has no envelope is refused', async (t) => {
  const cut = await ova(ovfEnvelope());
  await truncate(cut, (await stat(cut)).size / 2);
  await isRefused(t, cut, /cut short/);
  const damaged = await ova(ovfEnvelope());
  await patch(damaged, 10, Buffer.from('x'));
  await isRefused(t, damaged, /no tar archive/);
  await isRefused(t, await ova(ovfEnvelope(), ['disk-1.vmdk']), /not one envelope/);
  await isRefused(t, sound, /no tar archive/);
  const many = Array.from({ length: 70 }, () => 'disk-1.vmdk');
  await isRefused(t, await ova(ovfEnvelope(), many, ['--hard-dereference']), /more than 64 files/);
});

t.test('a disk in the archive is judged like any other', async (t) => {
  const text = '# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 8 FLAT "/etc/shadow" 0\n';
  await writeFile(join(sources, 'evil.vmdk'), text.padEnd(4096, '\n'));
  await isRefused(
    t,
    await ova(ovfEnvelope({ href: 'evil.vmdk' }), ['web.ovf', 'evil.vmdk']),
    /data lie in other files/,
  );
});

t.test('an envelope that makes no sense is refused with its reason', async (t) => {
  const bad: [RegExp, string][] = [
    [/not XML|no OVF/, '<Envelope'],
    [/no OVF/, '<html/>'],
    [/no machine/, '<Envelope/>'],
    [/several machines/, '<Envelope><VirtualSystemCollection/></Envelope>'],
    [/how much memory/, ovfEnvelope({ memory: '' })],
    [/unknown unit, "bananas"/, ovfEnvelope({ units: 'bananas' })],
  ];
  for (const [reason, text] of bad) t.throws(() => readOvf(text), { code: 'IMAGE_REFUSED', message: reason });
});

t.test('entities of an envelope are never expanded', async (t) => {
  const bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>';
  const text = ovfEnvelope({ name: '&b;' }).replace('<Envelope', `${bomb}<Envelope`);
  t.throws(() => readOvf(text), { code: 'IMAGE_REFUSED', message: /has a document type/ });
  t.match(readOvf(ovfEnvelope({ name: '&b;&lt;' })), { name: '&b;<' });
});
