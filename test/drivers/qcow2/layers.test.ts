/**
 * Layers of volumes by their bytes: what a guest would read before and after each change.
 */
import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { promisify } from 'node:util';
import t from 'tap';
import type { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { chainTo, type Layer, type LayerId, nextTidying, tidied } from '../../../src/model/layers.ts';
import { makePool } from './fixtures.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const SIZE_BYTES = 4 * MIB;

t.test(
  'what was written to each layer is read after it was merged, and by the branch beside it',
  async (t) => {
    const { pool } = await makePool(t);
    const volumeId = randomUUID();
    await pool.makeVolume({ id: volumeId, sizeBytes: SIZE_BYTES, image: null });
    const [a, b, c, d] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()];
    const parents: Record<string, LayerId> = { [a]: null, [b]: a, [c]: b, [d]: b };
    await write(pool.paths.volume(volumeId), 0, 4, 0x11);
    for (const [index, [layer, parent]] of Object.entries(parents).entries()) {
      await pool.makeLayer({ volumeId, layer, parent, sizeBytes: SIZE_BYTES });
      await write(pool.paths.layer(volumeId, layer), index, 1, 0x21 + index);
    }
    const kept = new Set<LayerId>([d]);
    const before = { active: await digest(pool, volumeId, c), kept: await digest(pool, volumeId, d) };
    const layers = Object.entries(parents).map(([id, parent]): Layer => ({ id, parent, merged: false }));
    let state = { active: c as LayerId, layers: layers as readonly Layer[] };
    for (let step = nextTidying(state, kept); step !== null; step = nextTidying(state, kept)) {
      if (step.do === 'remove') await pool.removeLayer(volumeId, step.layer);
      else {
        await pool.commitLayer(volumeId, step.layer);
        for (const layer of step.children) await pool.moveLayer({ volumeId, layer, parent: step.into });
      }
      state = tidied(state, step);
      t.equal(await digest(pool, volumeId, state.active), before.active, `active after ${step.do}`);
      t.equal(await digest(pool, volumeId, d), before.kept, `kept after ${step.do}`);
    }
    t.same(chainTo(state.layers, c), [c], 'a and b are in the own file; c and d both stand on it');
    t.equal((await pool.list()).length, 3);
  },
);

t.test('a layer that is larger than what it stands on makes that grow when it is committed', async (t) => {
  const { pool } = await makePool(t);
  const [volumeId, layer] = [randomUUID(), randomUUID()];
  await pool.makeVolume({ id: volumeId, sizeBytes: SIZE_BYTES, image: null });
  await pool.makeLayer({ volumeId, layer, parent: null, sizeBytes: 2 * SIZE_BYTES });
  await write(pool.paths.layer(volumeId, layer), 7, 1, 0x77);
  const before = await digest(pool, volumeId, layer);
  await pool.commitLayer(volumeId, layer);
  t.same(await pool.lookVolume(volumeId), { sizeBytes: 2 * SIZE_BYTES });
  t.equal(await digest(pool, volumeId, null), before);
});

t.test('a layer that somebody writes to is neither committed nor moved', async (t) => {
  const { pool } = await makePool(t);
  const [volumeId, layer, other] = [randomUUID(), randomUUID(), randomUUID()];
  await pool.makeVolume({ id: volumeId, sizeBytes: SIZE_BYTES, image: null });
  for (const each of [layer, other])
    await pool.makeLayer({ volumeId, layer: each, parent: null, sizeBytes: SIZE_BYTES });
  const writer = spawn('qemu-io', ['-f', 'qcow2', pool.paths.layer(volumeId, layer)]);
  await once(writer.stdout, 'data');
  await t.rejects(pool.commitLayer(volumeId, layer), { code: 'ILLEGAL_STATE' });
  await t.rejects(pool.moveLayer({ volumeId, layer, parent: other }), { code: 'ILLEGAL_STATE' });
  await t.rejects(pool.growVolume(volumeId, 2 * SIZE_BYTES, { layer }), { code: 'ILLEGAL_STATE' });
  writer.stdin.end();
  await once(writer, 'exit');
  await pool.commitLayer(volumeId, layer);
});

t.test('a file that stands on a stranger is no layer, and hides none of the others', async (t) => {
  const { pool } = await makePool(t);
  const [volumeId, layer, stranger] = [randomUUID(), randomUUID(), randomUUID()];
  await pool.makeVolume({ id: volumeId, sizeBytes: SIZE_BYTES, image: null });
  await pool.makeLayer({ volumeId, layer, parent: null, sizeBytes: SIZE_BYTES });
  const path = pool.paths.layer(volumeId, stranger);
  await run('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', '/etc/shadow', '-F', 'raw', path, '4M']);
  await t.rejects(pool.lookLayer(volumeId, stranger), { code: 'HOST_CONFLICT' });
  t.same(
    (await pool.survey()).volumes[0]?.layers.map(({ id }) => id),
    [layer],
  );
  await pool.removeVolume(volumeId);
  t.same(await pool.list(), []);
});

/** Fills whole mebibytes with one byte. */
async function write(path: string, fromMib: number, mib: number, byte: number): Promise<void> {
  await run('qemu-io', ['-f', 'qcow2', '-c', `write -P ${byte} ${fromMib}M ${mib}M`, path]);
}

/** Of what a guest would read. */
async function digest(pool: Qcow2Pool, volumeId: string, layer: LayerId): Promise<string> {
  const path = pool.paths.layer(volumeId, layer);
  const { stdout } = await run('sh', [
    '-c',
    'qemu-img convert -U -f qcow2 -O raw "$0" /dev/stdout | sha256sum',
    path,
  ]);
  return stdout;
}
