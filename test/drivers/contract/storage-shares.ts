/**
 * The part of StoragePool's contract that is about shares.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { ShareLabel } from '../../../src/drivers/contracts/storage.ts';
import type { MakePool, StorageFixture } from './storage-fixture.ts';

const LABEL: ShareLabel = {
  name: 'files',
  createdAt: '2026-01-02T03:04:05.678Z',
  quotaGib: null,
  protected: false,
};
const ABSENT_ID = '00000000-dead-4000-8000-000000000000';
const BAD_IDS = ['', '../../etc', 'a/b', '.', '..', 'x'.repeat(36)];

export function shareTests(t: Test, make: MakePool): void {
  lifeTests(t, make);
  refusalTests(t, make);
}

function lifeTests(t: Test, make: MakePool): void {
  t.test('a share is made once, shown with its label, and removed', async (t) => {
    const { pool } = await make(t);
    const id = randomUUID();
    t.equal(await pool.lookShare(id), null);
    await pool.makeShare({ id, label: LABEL });
    await pool.makeShare({ id, label: LABEL });
    t.same(await pool.lookShare(id), { label: LABEL });
    const listed = await pool.list();
    t.match(listed, [{ kind: 'share', id, path: pool.paths.share(id), standsOn: null }]);
    t.equal(listed.length, 1, 'its label is no file of its own');
    t.notOk(listed[0]?.holdsFiles);
    t.same((await pool.survey()).shares, [{ id, label: LABEL, fault: null }]);
    await pool.removeShare(id, { files: 'kept' });
    await pool.removeShare(id, { files: 'kept' });
    t.equal(await pool.lookShare(id), null);
    t.same(await pool.list(), []);
    t.same((await pool.survey()).shares, []);
  });

  t.test('what is in a share stays, unless its removal was asked for', async (t) => {
    const fixture = await make(t);
    const { pool } = fixture;
    const id = await shareWithFile(fixture);
    t.match(await pool.list(), [{ holdsFiles: true }]);
    await t.rejects(pool.removeShare(id, { files: 'kept' }), { code: 'HOST_CONFLICT' });
    await pool.makeShare({ id, label: LABEL });
    t.match(await pool.list(), [{ holdsFiles: true }], 'made again it is as it was');
    await pool.removeShare(id, { files: 'removed' });
    t.same(await pool.list(), []);
  });

  t.test('a share is called otherwise, and protected, with what is in it', async (t) => {
    const fixture = await make(t);
    const { pool } = fixture;
    const id = await shareWithFile(fixture);
    const label = { ...LABEL, name: 'other', protected: true };
    await pool.configureShare(id, label);
    await pool.configureShare(id, label);
    t.same(await pool.lookShare(id), { label });
    t.match(await pool.list(), [{ holdsFiles: true }]);
    await t.rejects(pool.configureShare(ABSENT_ID, label), { code: 'NOT_FOUND' });
  });
}

function refusalTests(t: Test, make: MakePool): void {
  t.test('a quota is held or refused, never promised', async (t) => {
    const { pool, keepsQuotas } = await make(t);
    const id = randomUUID();
    const label = { ...LABEL, quotaGib: 2 };
    if (!keepsQuotas) {
      await t.rejects(pool.makeShare({ id, label }), { code: 'UNSUPPORTED' });
      t.equal(await pool.lookShare(id), null);
      await pool.removeShare(id, { files: 'kept' });
      t.same(await pool.list(), [], 'a removal takes what was left of it');
      await pool.makeShare({ id, label: LABEL });
      await t.rejects(pool.configureShare(id, label), { code: 'UNSUPPORTED' });
      t.same(await pool.lookShare(id), { label: LABEL });
      return;
    }
    await pool.makeShare({ id, label });
    await t.rejects(pool.makeShare({ id, label: { ...label, quotaGib: 3 } }), { code: 'HOST_CONFLICT' });
    await pool.configureShare(id, { ...label, quotaGib: 1 });
    t.match(await pool.lookShare(id), { label: { quotaGib: 1 } });
    await pool.removeShare(id, { files: 'removed' });
  });

  t.test('an id that is none names no folder', async (t) => {
    const { pool } = await make(t);
    for (const id of BAD_IDS) {
      await t.rejects(async () => pool.makeShare({ id, label: LABEL }), { code: 'INVALID_ARGUMENT' });
      await t.rejects(async () => pool.lookShare(id), { code: 'INVALID_ARGUMENT' });
      await t.rejects(async () => pool.removeShare(id, { files: 'removed' }), { code: 'INVALID_ARGUMENT' });
    }
  });
}

async function shareWithFile({ pool, writeInto }: StorageFixture): Promise<string> {
  const id = randomUUID();
  await pool.makeShare({ id, label: LABEL });
  await writeInto(pool.paths.share(id));
  return id;
}
