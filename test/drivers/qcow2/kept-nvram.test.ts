/** Firmware variables that are kept beside a volume. */
import { randomUUID } from 'node:crypto';
import { symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { NVRAM_BYTES_LIMIT } from '../../../src/model/backup.ts';
import { makePool } from './fixtures.ts';

t.test('firmware variables are read as they were kept, and no link or giant is', async (t) => {
  const { pool, folder } = await makePool(t);
  const [volumeId, keeper] = [randomUUID(), randomUUID()];
  const path = pool.paths.nvram(volumeId, keeper);
  t.equal(await pool.readNvram(volumeId, keeper), null);
  await writeFile(path, 'variables');
  t.equal(Buffer.from((await pool.readNvram(volumeId, keeper)) ?? []).toString(), 'variables');
  for (const size of [0, NVRAM_BYTES_LIMIT + 1]) {
    await truncate(path, size);
    await t.rejects(pool.readNvram(volumeId, keeper), { code: 'HOST_CONFLICT' });
  }
  await pool.removeNvram(volumeId, keeper);
  await writeFile(join(folder, 'secret'), 'of the host');
  await symlink(join(folder, 'secret'), path);
  await t.rejects(pool.readNvram(volumeId, keeper), { code: 'HOST_CONFLICT' });
});
