/**
 * Images on a real node: fetched over a crash, converted, booted, changed behind its back, and given away.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { cannotRun, IMAGE, prepare, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const node = new RealNode({ config: '[images]\nallowAddresses = ["127.0.0.0/8"]' });

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
});
t.teardown(() => (skip ? undefined : node.remove()));

function inPool(name: string): string {
  return join(node.folder, 'state/pool/images', name);
}

/** Serves a file with ranges; the first answer stops in the middle for as long as nobody hangs up. */
async function serveOnceHalf(
  path: string,
): Promise<{ url: string; ranges: (string | undefined)[]; half: Promise<void> }> {
  const body = readFileSync(path);
  const ranges: (string | undefined)[] = [];
  const half = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    ranges.push(request.headers.range);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const range = from > 0 ? { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` } : {};
    const headers = { etag: '"1"', 'content-length': body.length - from, ...range };
    response.writeHead(from > 0 ? 206 : 200, headers);
    if (ranges.length > 1) response.end(body.subarray(from));
    else response.write(body.subarray(0, Math.floor(body.length / 2)), () => half.resolve());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/web.vmdk`,
    ranges,
    half: half.promise,
  };
}

t.test(
  'a VMDK whose transfer a crash cuts off is fetched to its end, converted, and boots',
  { skip, timeout: TEST_MS },
  async (t) => {
    const vmdk = join(node.folder, 'web.vmdk');
    execFileSync('qemu-img', ['convert', '-O', 'vmdk', IMAGE, vmdk]);
    const { url, ranges, half } = await serveOnceHalf(vmdk);
    const { operation } = await node.call('image.import', { name: 'web', source: url, format: 'vmdk' });
    await half;
    await until('half of it is on the disk', TEST_MS, async () =>
      node.poolFiles().some((name) => name.endsWith('.partial') && statSync(inPool(name)).size > 1_000_000),
    );
    await node.end('SIGKILL');
    await node.start();
    t.match(await node.ended(operation), { state: 'succeeded', error: null });
    t.match(ranges, [undefined, /^bytes=[1-9]\d+-$/]);
    t.match((await node.call('image.show', { id: 'web' })).image, { format: 'qcow2', sourceFormat: 'vmdk' });
    const disks = [{ image: 'web' }];
    t.match(await node.run('instance.create', { spec: spec('e2e-web', { disks }) }), { state: 'succeeded' });
    t.equal(await node.untilAddress('e2e-web'), node.firstAddress);
  },
);

t.test(
  'a base that somebody has changed is found before a guest boots from it',
  { skip, timeout: TEST_MS },
  async (t) => {
    t.match(await node.berth('instance', 'stop', 'e2e-web', '--mode', 'forced'), { code: 0 });
    const { image } = await node.call('image.show', { id: 'web' });
    const path = inPool(`${image.id}.qcow2`);
    const kept = join(node.folder, 'kept.qcow2');
    copyFileSync(path, kept);
    chmodSync(path, 0o644);
    const bytes = readFileSync(path);
    bytes.write('evil', bytes.length - 100);
    writeFileSync(path, bytes);
    const refused = await node.berth('instance', 'start', 'e2e-web');
    t.match(refused, { code: 1, stderr: /Image web was changed after it was made/ });
    t.match((await node.call('instance.show', { id: 'e2e-web' })).instance.power, { state: 'stopped' });
    t.match(await node.berth('image', 'verify', 'web'), { code: 1 });
    writeFileSync(path, readFileSync(kept));
    t.match(await node.berth('image', 'verify', 'web'), { code: 0 });
    t.match(await node.berth('instance', 'start', 'e2e-web'), { code: 0 });
    await node.untilAddress('e2e-web');
  },
);

t.test(
  'a disk is given away once its guest is down, with its digest',
  { skip, timeout: TEST_MS },
  async (t) => {
    const { disks } = (await node.call('instance.show', { id: 'e2e-web' })).instance;
    const volume = disks[0]?.volume ?? '';
    const path = join(node.folder, 'web.vhdx');
    t.match(await node.berth('volume', 'export', volume, path, '--format', 'vhdx'), {
      code: 1,
      stderr: /is running/,
    });
    t.match(await node.berth('instance', 'stop', 'e2e-web', '--mode', 'forced'), { code: 0 });
    t.match(await node.berth('volume', 'export', volume, path, '--format', 'vhdx'), { code: 0 });
    execFileSync('sha256sum', ['-c', '--quiet', `${path}.sha256`], { cwd: node.folder });
    const disk = join(node.folder, 'state/pool/volumes', `${disks[0]?.volumeId}.qcow2`);
    execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'vhdx', disk, path]);
    t.match(await node.berth('instance', 'start', 'e2e-web'), { code: 0 }, 'and its guest starts again');
    t.match(await node.berth('instance', 'delete', 'e2e-web', '--yes'), { code: 0 });
  },
);

t.test('an image that is uploaded is the file that was sent', { skip, timeout: TEST_MS }, async (t) => {
  const sent = await node.berth('image', 'upload', 'mine', IMAGE);
  t.match(sent, { code: 0 });
  const [mine, first] = await Promise.all(
    ['mine', 'test'].map(async (id) => (await node.call('image.show', { id })).image),
  );
  t.equal(mine?.sha256, first?.sha256);
  t.same(
    node.poolFiles().filter((name) => name.endsWith('.partial')),
    [],
  );
});
