/** Pools that nodes share, as files. */
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import type { StoragePool } from '../../../src/drivers/contracts/storage.ts';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { PoolMark } from '../../../src/drivers/qcow2/pool-mark.ts';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { MIB } from '../../../src/model/units.ts';
import { type SharingFixture, sharingContract } from '../contract/storage-sharing.ts';

interface Lab extends SharingFixture {
  root: string;
  /** The same before it is prepared. @param state Where the node remembers the mark. */
  rawPool(nodeId: string, options?: { isShared?: boolean }): Qcow2Pool;
}

async function lab(t: Test): Promise<Lab> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-shared-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const root = join(folder, 'common');
  mkdirSync(root);
  const exec = new HostExec();
  const rawPool = (nodeId: string, { isShared = true } = {}) => {
    const memoryPath = join(folder, 'state', nodeId, 'common.json');
    const parts = { name: 'common', root, memoryPath, machine: nodeId, known: new Map() };
    const ground = { mark: new PoolMark({ ...parts, isShared }), mount: null, isShared };
    const pool = new Qcow2Pool({ name: 'common', path: root, exec, ground });
    pool.enterNode(nodeId);
    return pool;
  };
  const poolOf = async (nodeId: string) => {
    const pool = rawPool(nodeId);
    await pool.prepare();
    return pool;
  };
  const alone = new Qcow2Pool({ name: 'alone', path: join(folder, 'alone'), exec });
  await alone.prepare();
  const plantLayer: SharingFixture['plantLayer'] = async (pool, { volumeId, layer, below }) => {
    const path = pool.paths.layer(volumeId, layer);
    await exec.run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '4M'], {});
    await exec.run('qemu-img', ['rebase', '-q', '-u', '-b', below, '-F', 'qcow2', path], {});
  };
  const belowOf: SharingFixture['belowOf'] = async (pool, volumeId, layer) => {
    const args = ['info', '--output=json', pool.paths.layer(volumeId, layer)];
    return JSON.parse((await exec.run('qemu-img', args, {})).stdout)['full-backing-filename'] ?? null;
  };
  return { root, rawPool, poolOf, alone, plantLayer, belowOf };
}

sharingContract(t, 'Qcow2Pool', lab);

t.test('nodes that come to a new folder at once agree on one mark', async (t) => {
  for (let round = 0; round < 10; round++) {
    const { rawPool, root } = await lab(t);
    const pools = [1, 2, 3, 4].map(() => rawPool(randomUUID()));
    await Promise.all(pools.map((pool) => pool.prepare()));
    for (const pool of pools) t.same(await pool.list(), [], 'each finds its mark again');
    t.same(readdirSync(root).sort(), ['berth-pool.json', 'nodes']);
  }
});

t.test('a wipe leaves the bytes of a layer that another node has, too', async (t) => {
  const { poolOf, root } = await lab(t);
  const pool = await poolOf(randomUUID());
  const [id, layer] = [randomUUID(), randomUUID()];
  await pool.makeVolume({ id, sizeBytes: 4 * MIB, image: null });
  await pool.makeLayer({ volumeId: id, layer, parent: null, sizeBytes: 4 * MIB });
  const elsewhere = join(root, 'of-another-node');
  linkSync(pool.paths.layer(id, layer), elsewhere);
  const before = readFileSync(elsewhere);
  await pool.setVolumeAside(id);
  await pool.wipe(id, { bytesPerSecond: 1024 * MIB });
  t.ok(readFileSync(elsewhere).equals(before));
  t.same(await pool.list(), []);
});

t.test('a folder is shared for all who have it, or for none', async (t) => {
  const { rawPool, root, poolOf } = await lab(t);
  await poolOf(randomUUID());
  await t.rejects(rawPool(randomUUID(), { isShared: false }).prepare(), {
    code: 'HOST_CONFLICT',
    message: /several hosts share it/,
  });
  rmSync(root, { recursive: true });
  mkdirSync(root);
  await rawPool(randomUUID(), { isShared: false }).prepare();
  await t.rejects(poolOf(randomUUID()), { code: 'HOST_CONFLICT', message: /one host's/ });
});

t.test('a berthd that knows of no shared pools takes their mark for none of its own', async (t) => {
  const { root, poolOf } = await lab(t);
  await poolOf(randomUUID());
  const mark = JSON.parse(readFileSync(join(root, 'berth-pool.json'), 'utf8'));
  t.match(mark, { version: 1, machine: null, shared: true });
});

t.test('wherever a taking is broken off, the next call goes on, and one node has the volume', async (t) => {
  const { poolOf } = await lab(t);
  const [oldId, otherId] = [randomUUID(), randomUUID()];
  const [old, other] = [await poolOf(oldId), await poolOf(otherId)];
  const label = { name: 'root', createdAt: '2026-01-02T03:04:05.678Z', instanceId: null };
  const from = { node: oldId, fence: 1 };
  const labelOf = (pool: StoragePool, id: string) => pool.paths.volume(id).replace(/qcow2$/, 'json');

  const id = randomUUID();
  await old.makeVolume({ id, sizeBytes: 1024 ** 2, image: null, label });
  // Killed after the label was copied.
  writeFileSync(labelOf(other, id), readFileSync(labelOf(old, id)));
  t.equal(await other.ownerOf(id), oldId);
  t.same((await other.survey()).volumes, []);
  t.match(await other.takeVolume(id, from), { label });
  // Killed before the label of before was removed.
  writeFileSync(labelOf(old, id), readFileSync(labelOf(other, id)));
  t.match(await other.takeVolume(id, from), { label });
  t.notOk(existsSync(labelOf(old, id)));
  t.same((await old.survey()).volumes, []);
});

t.test(
  'a folder that does not say whose it is, or a lost label, keeps its volumes where they are',
  async (t) => {
    const { poolOf, root } = await lab(t);
    const [oldId, other] = [randomUUID(), await poolOf(randomUUID())];
    const old = await poolOf(oldId);
    const id = randomUUID();
    await old.makeVolume({ id, sizeBytes: 1024 ** 2, image: null });
    const from = { node: oldId, fence: 1 };
    await t.rejects(other.takeVolume(id, from), { code: 'UNSUPPORTED', message: /label is lost/ });
    const record = join(root, 'nodes', oldId, 'berth-node.json');
    for (const text of ['', '{', '[]', '{"version":1}', `{"version":1,"nodeId":"${oldId}","fence":-1}`]) {
      writeFileSync(record, text);
      await t.rejects(other.takeVolume(id, from), { code: 'UNAVAILABLE', message: /does not say/ }, text);
    }
    t.equal(await other.ownerOf(id), oldId);
  },
);

t.test('what a node has planted is not followed: links, and folders of another name', async (t) => {
  const { poolOf, root } = await lab(t);
  const [oldId, otherId, thirdId] = [randomUUID(), randomUUID(), randomUUID()];
  const [old, other] = [await poolOf(oldId), await poolOf(otherId)];
  const label = { name: 'root', createdAt: '2026-01-02T03:04:05.678Z', instanceId: null };
  const [secret, id] = [randomUUID(), randomUUID()];
  await other.makeVolume({ id: secret, sizeBytes: 1024 ** 2, image: null, label });
  symlinkSync(other.paths.volume(secret), old.paths.volume(id));
  await t.rejects(other.takeVolume(id, { node: oldId, fence: 1 }), { code: 'NOT_FOUND' });
  t.equal(await other.ownerOf(id), null);
  symlinkSync(join(root, 'nodes', otherId), join(root, 'nodes', thirdId));
  await t.rejects(old.takeVolume(secret, { node: thirdId, fence: 1 }), { code: 'HOST_CONFLICT' });
  t.match(await other.lookVolume(secret), { sizeBytes: 1024 ** 2 });
});

t.test('a shared pool that was not told whose it is makes nothing', async (t) => {
  const { root } = await lab(t);
  const parts = {
    name: 'common',
    root,
    memoryPath: join(root, '..', 'x.json'),
    machine: null,
    known: new Map(),
  };
  const ground = { mark: new PoolMark({ ...parts, isShared: true }), mount: null, isShared: true };
  const pool = new Qcow2Pool({ name: 'common', path: root, exec: new HostExec(), ground });
  await t.rejects(pool.prepare(), { code: 'INTERNAL' });
  t.same(readdirSync(root), []);
});

t.test('a volume that stands on an image of its node is not taken', async (t) => {
  const { poolOf } = await lab(t);
  const [oldId, other] = [randomUUID(), await poolOf(randomUUID())];
  const old = await poolOf(oldId);
  const [base, id] = [randomUUID(), randomUUID()];
  await old.makeVolume({ id: base, sizeBytes: 1024 ** 2, image: null });
  const backing = ['-b', old.paths.volume(base), '-F', 'qcow2'];
  await new HostExec().run('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, old.paths.volume(id)], {});
  await t.rejects(other.takeVolume(id, { node: oldId, fence: 1 }), { code: 'UNSUPPORTED', message: /image/ });
});
