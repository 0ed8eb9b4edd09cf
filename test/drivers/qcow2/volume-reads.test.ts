/** Volumes as they are read in place, beside what qemu-img makes of them. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { VolumeRead } from '../../../src/drivers/contracts/storage.ts';
import { DiskPlaces } from '../../../src/drivers/qcow2/disk-places.ts';
import type { Exec } from '../../../src/drivers/host/exec.ts';
import type { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { exec, makePool, makeQcow2, MIB } from './fixtures.ts';

const SIZE_BYTES = 8 * MIB;
/** Longer than it takes to take a right back, ms. */
const LATE_MS = 200;

/** All that is read, laid on zeros; where it overlaps or goes back, it is refused. */
async function diskOf(pool: Qcow2Pool, volume: VolumeRead): Promise<Buffer> {
  const disk = Buffer.alloc(SIZE_BYTES);
  let end = 0;
  for await (const extent of pool.readVolume(volume)) {
    if (extent.offset < end) throw new Error(`${extent.offset} was told already`);
    if (extent.type === 'data') disk.set(extent.data, extent.offset);
    end = extent.offset + (extent.type === 'data' ? extent.data.length : extent.length);
  }
  return disk;
}

async function write(path: string, ...commands: string[]): Promise<void> {
  const args = commands.flatMap((command) => ['-c', command]);
  await exec.run('qemu-io', ['-f', 'qcow2', ...args, path]);
}

for (const kind of ['qcow2', 'compressed qcow2', 'raw', 'none'] as const) {
  t.test(`a volume on ${kind} is read byte for byte as qemu-img reads it`, async (t) => {
    const { pool, folder } = await makePool(t);
    const source = join(folder, 'source');
    const plain = await makeQcow2(join(folder, 'plain'));
    await write(plain, 'write -P 17 2M 200k');
    const how =
      kind === 'compressed qcow2' ? ['-c', '-O', 'qcow2'] : ['-O', kind === 'none' ? 'qcow2' : kind];
    await exec.run('qemu-img', ['convert', ...how, plain, source]);
    const format = kind === 'raw' ? 'raw' : 'qcow2';
    const image = kind === 'none' ? null : { id: randomUUID(), format: format as 'raw' | 'qcow2' };
    if (image !== null) await pool.makeImage({ ...image, source, sha256: null });
    const id = randomUUID();
    await pool.makeVolume({ id, sizeBytes: SIZE_BYTES, image });
    await write(pool.paths.volume(id), 'write -P 1 64k 4k', 'write -P 2 900k 300k', 'write -z 2100k 64k');
    await exec.run('qemu-img', ['bitmap', '--add', pool.paths.volume(id), 'since']);
    await write(pool.paths.volume(id), 'write -P 3 3M 64k', 'write -z 0 64k');
    const layer = randomUUID();
    await pool.makeLayer({ volumeId: id, layer, parent: null, sizeBytes: SIZE_BYTES });
    // The last cluster of the file ends before its end.
    await write(pool.paths.layer(id, layer), 'write -P 4 5M 4k', 'write -P 5 1000k 1k');
    for (const layers of [[], [layer]]) {
      const path = layers.length === 0 ? pool.paths.volume(id) : pool.paths.layer(id, layer);
      await exec.run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, join(folder, 'raw')]);
      const wanted = await readFile(join(folder, 'raw'));
      t.ok(wanted.equals(await diskOf(pool, { id, image, layers })), `${layers.length} layers`);
    }
    const changed = [];
    for await (const { type, offset } of pool.readVolume({ id, image, since: 'since' }))
      changed.push([type, offset]);
    t.same(changed, [
      ['zero', 0],
      ['data', 3 * MIB],
    ]);
  });
}

t.test('its server may open a volume as late as it likes', async (t) => {
  const looked = Promise.withResolvers<void>();
  const late: Exec = {
    async run(program, args, options) {
      if (program === 'qemu-nbd') await looked.promise;
      const result = await exec.run(program, args, options);
      // The right to the file would be taken back right after this look.
      if (program === 'qemu-img' && args[0] === 'info') setTimeout(() => looked.resolve(), LATE_MS);
      return result;
    },
  };
  const { pool } = await makePool(t, { exec: late });
  const id = randomUUID();
  await pool.makeVolume({ id, sizeBytes: SIZE_BYTES, image: null });
  await exec.run('qemu-img', ['bitmap', '--add', pool.paths.volume(id), 'since']);
  await write(pool.paths.volume(id), 'write -P 3 3M 64k');
  const changed = [];
  for await (const { offset } of pool.readVolume({ id, image: null, since: 'since' })) changed.push(offset);
  t.same(changed, [3 * MIB]);
});

t.test(
  'places that are told out of order, twice or of no file change nothing but where bytes come from',
  async (t) => {
    const file = { fd: 3 } as never;
    const entry = {
      start: 0,
      length: 4096,
      depth: 0,
      present: true,
      zero: false,
      data: true,
      offset: 65_536,
    };
    const places = new DiskPlaces([file]);
    places.note({ ...entry, start: 8192 });
    places.note(entry);
    places.note({ ...entry, start: 8192, length: 2048 });
    for (const depth of [1, -1, 0.5, 'length' as never]) places.note({ ...entry, start: 16_384, depth });
    places.note({ ...entry, start: 20_480, offset: -1 });
    t.same(
      places.partsOf(0, 32_768).map(({ start, length, place }) => [start, length, place === null]),
      [
        [0, 8192, true],
        [8192, 4096, false],
        [12_288, 20_480, true],
      ],
    );
  },
);
