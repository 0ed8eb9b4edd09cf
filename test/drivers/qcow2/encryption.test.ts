/**
 * What is on the disk of encrypted volumes, and what is not: on real files.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import type { Exec, RunOptions } from '../../../src/drivers/host/exec.ts';
import { readQcow2Header } from '../../../src/drivers/qcow2/header.ts';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { TestKeys } from '../keys.ts';
import { exec, makeFolder, MIB } from './fixtures.ts';

const WORD = 'nobody-finds-this-on-the-disk';
const ENCRYPTION = { key: 'disks' };

async function makePool(t: Parameters<typeof makeFolder>[0], by: Exec = exec) {
  const folder = await makeFolder(t);
  const keys = new TestKeys(folder, ['disks']);
  const pool = new Qcow2Pool({ name: 'main', path: join(folder, 'pool'), exec: by, keys: keys.keys });
  await pool.prepare();
  return { folder, keys, pool };
}

/** Files of the pool that have the word. */
function filesWith(folder: string, word: string | Buffer): string[] {
  const volumes = join(folder, 'pool/volumes');
  return readdirSync(volumes).filter((name) => readFileSync(join(volumes, name)).includes(word));
}

t.test('what is written is in no file, on the way neither, nor is what opens it', async (t) => {
  const seen: string[] = [];
  const commands: string[] = [];
  const watching: Exec = {
    run: async (program: string, args: readonly string[], options?: RunOptions) => {
      commands.push([program, ...args, JSON.stringify(options?.env ?? {})].join(' '));
      const result = await exec.run(program, args, options);
      seen.push(...filesWith(folder, WORD));
      return result;
    },
  };
  const { folder, keys, pool } = await makePool(t, watching);
  const request = { id: randomUUID(), sizeBytes: 2 * MIB, image: null, encryption: ENCRYPTION };
  await pool.restoreVolume(request, (sink) => sink.write(MIB, Buffer.from(WORD)));
  const chain = { id: request.id, image: null, encryption: ENCRYPTION };
  const words: string[] = [];
  const key = { volumeId: request.id, key: ENCRYPTION.key };
  for await (const extent of pool.readVolume(chain))
    if (extent.type === 'data') words.push(Buffer.from(extent.data).toString('latin1'));
  t.ok(words.join('').includes(WORD), 'and yet it is there');
  await pool.cloneVolume({ ...request, id: randomUUID() }, chain);
  t.same([...seen, ...filesWith(folder, WORD)], []);
  const passphrase = await keys.keys.passphrase(key);
  t.same(filesWith(folder, passphrase), []);
  t.notOk(commands.some((command) => command.includes(passphrase)));
  const clear = { id: randomUUID(), sizeBytes: 2 * MIB, image: null };
  await pool.cloneVolume(clear, chain);
  t.same(filesWith(folder, WORD), [`${clear.id}.qcow2`], 'but where that is asked for');
});

t.test('a wipe leaves nothing of the key, however large the volume', async (t) => {
  const { folder, pool } = await makePool(t);
  const request = { id: randomUUID(), sizeBytes: 2 * MIB, image: null, encryption: ENCRYPTION };
  await pool.makeVolume(request);
  const path = pool.paths.volume(request.id);
  await using file = await open(path, 'r');
  const start = Buffer.alloc(65_536);
  await file.read(start, 0, start.length, 0);
  const header = readQcow2Header(start);
  const area = header.ok ? header.value.keyArea : null;
  t.match(area, { offset: Number, length: Number });
  const { offset = 0, length = 0 } = area ?? {};
  const bytes = Buffer.alloc(length);
  await file.read(bytes, 0, length, offset);
  t.equal(bytes.toString('latin1', 0, 4), 'LUKS');
  await pool.setVolumeAside(request.id);
  await pool.wipe(request.id, { bytesPerSecond: 1 });
  await file.read(bytes, 0, length, offset);
  t.ok(bytes.equals(Buffer.alloc(length)), 'the file that is gone has zeros there');
  t.same(readdirSync(join(folder, 'pool/volumes')), []);
});

t.test('a file in clear in the place of an encrypted one is not opened', async (t) => {
  const { pool } = await makePool(t);
  const [secret, clear] = [randomUUID(), randomUUID()];
  await pool.makeVolume({ id: secret, sizeBytes: 2 * MIB, image: null, encryption: ENCRYPTION });
  await pool.makeVolume({ id: clear, sizeBytes: 2 * MIB, image: null });
  await rename(pool.paths.volume(clear), pool.paths.volume(secret));
  const chain = { id: secret, image: null, encryption: ENCRYPTION };
  await t.rejects(pool.checkKey(chain), { code: 'HOST_CONFLICT', message: /is in clear/ });
  await t.rejects(pool.growVolume(secret, 4 * MIB, { encryption: ENCRYPTION }), { name: 'AgentError' });
  await t.rejects(pool.readVolume(chain).next(), { name: 'AgentError' });
});

t.test('what QEMU could not measure is made again, and nothing else is', async (t) => {
  let failures = 2;
  const failing: Exec = {
    run: async (program: string, args: readonly string[], options?: RunOptions) => {
      if (args[0] !== 'create' || failures-- <= 0) return exec.run(program, args, options);
      return exec.run('sh', ['-c', 'echo "qemu-img: Unable to get accurate CPU usage" >&2; exit 1']);
    },
  };
  const { pool } = await makePool(t, failing);
  const request = { id: randomUUID(), sizeBytes: 2 * MIB, image: null, encryption: ENCRYPTION };
  await pool.makeVolume(request);
  await pool.checkKey(request);
  failures = 100;
  const other = { ...request, id: randomUUID() };
  const error = await pool.makeVolume(other).catch((thrown: unknown) => thrown);
  t.ok(error instanceof AgentError && /CPU usage/.test(error.toBody().message), 'it ends');
  t.equal(await pool.lookVolume(other.id), null);
});
