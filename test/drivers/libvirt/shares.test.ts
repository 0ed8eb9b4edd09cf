/** What serves shares: the program for those that are read-only, and the search for virtiofsd. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { readXml } from '../../../src/drivers/host/xml-read.ts';
import { shareDevice, shareOf, sharesMemory } from '../../../src/drivers/libvirt/share-xml.ts';
import { findVirtiofsd, probeShares } from '../../../src/drivers/libvirt/virtiofsd.ts';
import { writeXml } from '../../../src/drivers/libvirt/xml.ts';

const PROGRAM = fileURLToPath(new URL('../../../bin/berth-virtiofsd-readonly', import.meta.url));
const CAPABILITIES = `<domainCapabilities><devices><filesystem supported='yes'><enum name='driverType'>
  <value>path</value><value>virtiofs</value></enum></filesystem></devices></domainCapabilities>`;

async function folderOf(t: Test, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'glv-vhost-'));
  t.teardown(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return folder;
}

t.test('virtiofsd is found where its description says, wherever that is', async (t) => {
  const there = await folderOf(t, { daemon: '#!/bin/sh\n' });
  const daemon = join(there, 'daemon');
  await chmod(daemon, 0o755);
  const described = (type: string, binary: string) => JSON.stringify({ description: 'x', type, binary });
  const folder = await folderOf(t, {
    '10-gpu.json': described('gpu', daemon),
    '20-gone.json': described('fs', '/nowhere/virtiofsd'),
    '30-relative.json': described('fs', 'virtiofsd'),
    '40-broken.json': '{"type": "fs", ',
    '41-null.json': 'null',
    '42-text.json': '"fs"',
    '50-fs.json': described('fs', daemon),
    '60-other.json': described('fs', '/bin/sh'),
    'notes.txt': described('fs', '/bin/sh'),
  });
  t.equal(await findVirtiofsd(['/nowhere', folder]), daemon);
  t.equal(await findVirtiofsd([await folderOf(t, {}), '/nowhere']), null);
});

t.test('whether guests can have shares is told with its reason', async (t) => {
  const there = await folderOf(t, {});
  const folder = await folderOf(t, { '50.json': JSON.stringify({ type: 'fs', binary: '/bin/sh' }) });
  const probe = { capabilities: CAPABILITIES, readOnlyProgram: PROGRAM, folders: [folder] };
  t.same(await probeShares(probe), { usable: true, reason: '/bin/sh serves them' });
  t.match(await probeShares({ ...probe, folders: [there] }), { usable: false, reason: /not installed/ });
  t.match(await probeShares({ ...probe, readOnlyProgram: join(there, 'none') }), {
    usable: false,
    reason: /read-only/,
  });
  const without = CAPABILITIES.replace('<value>virtiofs</value>', '');
  t.match(await probeShares({ ...probe, capabilities: without }), { usable: false, reason: /no device/ });
});

t.test('a share is known again from its XML, read-only by the program or by libvirt itself', async (t) => {
  const shares = [
    { tag: 'data', path: '/srv/one', readOnly: false },
    { tag: 'conf', path: "/srv/it's & <two>", readOnly: true },
  ];
  for (const share of shares) t.same(shareOf(readXml(writeXml(shareDevice(share, PROGRAM)))), share);
  const native = "<filesystem><source dir='/a'/><target dir='b'/><readonly/></filesystem>";
  t.same(shareOf(readXml(native)), { tag: 'b', path: '/a', readOnly: true });
  t.same(shareOf(readXml('<filesystem/>')), { tag: null, path: null, readOnly: false });
  const other = "<filesystem><binary path='/tmp/not-berth-virtiofsd-readonly'/></filesystem>";
  t.same(shareOf(readXml(other)).readOnly, false, 'by its whole name');
  t.ok(sharesMemory(readXml("<domain><memoryBacking><access mode='shared'/></memoryBacking></domain>")));
  t.notOk(sharesMemory(readXml("<domain><memoryBacking><access mode='private'/></memoryBacking></domain>")));
});

t.test('a path that virtiofsd would read apart is not shared', async (t) => {
  for (const path of ['relative', '/a,xattr', '/a\nb', '', '/a\0b'])
    t.throws(() => shareDevice({ tag: 'data', path, readOnly: false }, PROGRAM), {
      code: 'INVALID_ARGUMENT',
    });
});

t.test(
  'the program for read-only shares serves nothing where anything is unforeseen',
  { skip: notHere() },
  async (t) => {
    const folder = await folderOf(t, { file: 'as it was' });
    await mkdir(join(folder, 'in'));
    for (const [words, message] of [
      [[], /no folder is given/],
      [['--fd=3', '-o', 'xattr'], /no folder is given/],
      [['-o', 'source=relative'], /no folder is given/],
      [['-o', 'source=/'], /root of the host/],
      [['-o', `source=${folder}/file`], /is no folder/],
      [['-o', `source=${folder}/none`], /is no folder/],
      [['-o', `source=${folder},xattr`, '-o', 'source=/'], /more than one folder/],
      [['--shared-dir', folder, '--shared-dir=/'], /more than one folder/],
    ] as [string[], RegExp][]) {
      const { status, stderr } = spawnSync(PROGRAM, words, { encoding: 'utf8' });
      t.match({ status, stderr }, { status: 1, stderr: message }, words.join(' '));
    }
    const mounts = spawnSync('findmnt', ['-n', '-T', folder, '-o', 'TARGET'], {
      encoding: 'utf8',
    }).stdout.trim();
    t.not(mounts, folder, 'and leaves no mount behind');
  },
);

t.test('what libvirt asks of virtiofsd before it starts one is answered', { skip: notHere() }, async (t) => {
  const { status, stdout } = spawnSync(PROGRAM, ['--print-capabilities'], { encoding: 'utf8' });
  t.equal(status, 0);
  t.match(JSON.parse(stdout), { type: 'fs' });
});

function notHere(): string | false {
  if (process.getuid?.() !== 0) return 'needs root';
  return spawnSync(PROGRAM, ['--version']).status === 0 ? false : 'virtiofsd is not installed';
}
