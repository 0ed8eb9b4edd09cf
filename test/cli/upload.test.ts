/** `berth image upload` and `berth image spec`, against an agent on a simulated host. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type SimAgent, simAgent } from '../agent/support/sim-agent.ts';
import { berth, type Ran, type RunOptions } from './support/run.ts';

function file(t: Test, bytes: Buffer): string {
  const folder = mkdtempSync(join(tmpdir(), 'berth-upload-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'disk.raw');
  writeFileSync(path, bytes);
  return path;
}

function run(sim: SimAgent, argv: string[], options: RunOptions = {}): Promise<Ran> {
  return sim.passTimeUntil(berth(argv, { socketPath: sim.socketPath, ...options }));
}

t.test('a file is sent in pieces, with its digest, and is then an image', async (t) => {
  const sim = await simAgent(t);
  // More than two pieces of 16 MiB.
  const bytes = Buffer.alloc(33 * 1024 * 1024, 'berth');
  const ran = await run(sim, ['image', 'upload', 'mine', file(t, bytes), '--pin']);
  t.match(ran, { code: 0, stdout: /^Uploaded image mine in/, stderr: '' });
  t.match((await sim.call('image.show', { id: 'mine' })).image, {
    state: 'ready',
    format: 'raw',
    pinned: true,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    sizeBytes: bytes.length,
  });
});

t.test('a digest that is another one refuses the upload, and leaves nothing', async (t) => {
  const sim = await simAgent(t);
  const argv = ['image', 'upload', 'mine', file(t, Buffer.from('x')), '--sha256', '0'.repeat(64)];
  t.match(await run(sim, argv), { code: 1, stdout: '', stderr: /its digest is/ });
  t.same(sim.files, []);
});

t.test('what is no file with bytes in it is a mistake of usage, and nothing is asked', async (t) => {
  const sim = await simAgent(t);
  t.match(await run(sim, ['image', 'upload', 'mine', '/tmp']), { code: 2, stderr: /no file with bytes/ });
  t.match(await run(sim, ['image', 'upload', 'mine', '/nowhere/x']), {
    code: 1,
    stderr: /Cannot read \/nowhere\/x/,
  });
  t.same((await sim.call('operation.list', {})).operations, []);
});

t.test('the machine of an OVA becomes a spec that can be created, with notes beside it', async (t) => {
  const sim = await simAgent(t);
  const hardware = {
    name: 'Web & Mail (old)',
    vcpus: 2,
    memoryMib: 2048,
    firmware: 'uefi',
    operatingSystem: 'Debian',
    disks: [
      { file: 'a.vmdk', sizeBytes: null, bus: 'scsi' },
      { file: 'b.vmdk', sizeBytes: null, bus: 'scsi' },
    ],
    nics: [{ network: 'VM Network', model: 'E1000' }],
  } as const;
  const facts = { sha256: 'b'.repeat(64), sizeBytes: 1000, virtualSizeBytes: 1024 ** 3 };
  const machine = { ...hardware, disks: [...hardware.disks], nics: [...hardware.nics] };
  sim.world.sources.set('https://b/old.ova', { ...facts, hardware: machine });
  await sim.run('image.import', { name: 'old', source: 'https://b/old.ova', format: 'ova' });
  const { code, stdout, stderr } = await run(sim, ['image', 'spec', 'old']);
  t.equal(code, 0);
  const spec = JSON.parse(stdout);
  t.strictSame(spec, {
    name: 'web-mail-old',
    vcpus: 2,
    memoryMib: 2048,
    firmware: 'uefi',
    disks: [{ image: 'old' }],
    nics: [{ network: 'default' }],
    sshAuthorizedKeys: [],
  });
  t.match(stderr, /said to be Debian/);
  t.match(stderr, /were on scsi and will be on virtio/);
  t.match(stderr, /were E1000/);
  t.match(stderr, /has 2 disks/);
  await sim.run('network.create', {
    spec: { name: 'default', cidr: '10.80.0.0/24', nat: true, dhcp: true, dnsServers: [] },
  });
  t.equal((await sim.run('instance.create', { spec })).state, 'succeeded');
});

t.test('an image that is from no machine has no spec', async (t) => {
  const sim = await simAgent(t);
  sim.world.sources.set('https://b/x', { sha256: 'b'.repeat(64), sizeBytes: 1, virtualSizeBytes: 512 });
  await sim.run('image.import', { name: 'plain', source: 'https://b/x' });
  t.match(await run(sim, ['image', 'spec', 'plain']), { code: 2, stderr: /does not say what machine/ });
});
