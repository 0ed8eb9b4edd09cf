/** The pool on the file systems that nodes have: the whole contract on each, and what only some of them can. */
import { randomUUID } from 'node:crypto';
import { statfsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { storageContract } from '../contract/storage.ts';
import { exec, fixtureMaker, MIB } from './fixtures.ts';
import { cannotMount, LOOP_KINDS, mountLoop } from './loop.ts';

/** Written to a volume, and to the image that it stands on. */
const DATA_MIB = 48;
/** What the metadata of a file system takes of its room meanwhile; far less than the data. */
const SLACK_BYTES = 8 * MIB;

const make = await fixtureMaker(t);

for (const kind of LOOP_KINDS) {
  t.test(`on ${kind}`, { skip: cannotMount(kind) }, async (t) => {
    const root = mountLoop(t, kind);
    let pools = 0;
    storageContract(t, `Qcow2Pool on ${kind}`, (t) => make(t, join(root, String(++pools))), 'encryption');
  });

  t.test(`a copy of a volume on ${kind}`, { skip: cannotMount(kind) }, async (t) => {
    const root = mountLoop(t, kind);
    const pool = new Qcow2Pool({ name: 'main', path: join(root, 'pool'), exec });
    await pool.prepare();
    const { reflink, fileSystem } = await pool.capacity();
    t.equal(fileSystem, kind);
    t.equal(reflink, kind !== 'ext4');
    const { from, clone } = await volumes(pool);
    const before = await usedBytes(root);
    await pool.cloneVolume(clone, from);
    const grown = (await usedBytes(root)) - before;
    const dataBytes = 2 * DATA_MIB * MIB;
    if (reflink)
      t.ok(grown < SLACK_BYTES, `shares its blocks with it and with its image: ${grown} bytes more`);
    else t.ok(grown > dataBytes - SLACK_BYTES, `has blocks of its own: ${grown} bytes more`);
    await same(t, pool, from.id, clone.id);
    await exec.run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 1M', pool.paths.volume(clone.id)]);
    const read = ['-f', 'qcow2', '-c', 'read -P 1 0 1M', pool.paths.volume(from.id)];
    t.notMatch(
      (await exec.run('qemu-io', read)).stdout,
      /failed/,
      'what is written to one is not in the other',
    );
  });
}

/** A volume with data of its own on an image with as much. */
async function volumes(pool: Qcow2Pool) {
  const source = join(tmpdir(), `berth-source-${randomUUID()}.qcow2`);
  const sizeBytes = 4 * DATA_MIB * MIB;
  await exec.run('qemu-img', ['create', '-q', '-f', 'qcow2', source, String(sizeBytes)]);
  await exec.run('qemu-io', ['-f', 'qcow2', '-c', `write -P 1 0 ${DATA_MIB}M`, source]);
  const image = { id: randomUUID(), format: 'qcow2' } as const;
  await pool.makeImage({ ...image, source, sha256: null });
  await rm(source);
  const from = { id: randomUUID(), image };
  await pool.makeVolume({ ...from, sizeBytes });
  const write = `write -P 2 ${2 * DATA_MIB}M ${DATA_MIB}M`;
  await exec.run('qemu-io', ['-f', 'qcow2', '-c', write, pool.paths.volume(from.id)]);
  return { from, clone: { id: randomUUID(), sizeBytes, image: null } };
}

async function same(t: Test, pool: Qcow2Pool, one: string, other: string): Promise<void> {
  const paths = [pool.paths.volume(one), pool.paths.volume(other)];
  t.match((await exec.run('qemu-img', ['compare', ...paths])).stdout, /identical/);
}

/** What was written is counted once it is on the disk. */
async function usedBytes(root: string): Promise<number> {
  await exec.run('sync', ['-f', root]);
  const { blocks, bfree, bsize } = statfsSync(root);
  return (blocks - bfree) * bsize;
}
