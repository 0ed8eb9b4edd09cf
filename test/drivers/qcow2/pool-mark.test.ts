import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type KnownMarks, MARK_NAME, PoolMark } from '../../../src/drivers/qcow2/pool-mark.ts';

const OURS = ['images', 'volumes'];

function lab(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'berth-mark-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const root = join(folder, 'pool');
  mkdirSync(root);
  const markOf = (
    change: { name?: string; root?: string; machine?: string | null; known?: KnownMarks } = {},
  ) =>
    new PoolMark({
      name: 'fast',
      root,
      memoryPath: join(folder, 'state/pools', `${change.name ?? 'fast'}.json`),
      machine: 'here',
      known: new Map(),
      ...change,
    });
  return {
    folder,
    root,
    markOf,
    path: join(root, MARK_NAME),
    forget: () => rmSync(join(folder, 'state'), { recursive: true }),
  };
}

t.test('a new folder is marked once, and known again by the next process', async (t) => {
  const { markOf, path } = lab(t);
  await t.rejects(markOf().check(), { code: 'UNAVAILABLE', message: /bears no mark yet/ });
  await markOf().prepare(OURS);
  const text = readFileSync(path, 'utf8');
  const mark = markOf();
  await mark.prepare(OURS);
  await mark.check();
  t.equal(readFileSync(path, 'utf8'), text);
});

t.test('a folder that has lost its mark is not marked anew: its file system is not mounted', async (t) => {
  const { markOf, path, root } = lab(t);
  const mark = markOf();
  await mark.prepare(OURS);
  renameSync(root, `${root}-mounted`);
  await t.rejects(mark.check(), { code: 'UNAVAILABLE', message: /there is no such folder/ });
  mkdirSync(root);
  const lost = { code: 'UNAVAILABLE', message: /has lost its mark/ };
  await t.rejects(mark.check(), lost);
  await t.rejects(markOf().prepare(OURS), lost);
  t.throws(() => readFileSync(path), { code: 'ENOENT' }, 'nothing was written');
  rmSync(root, { recursive: true });
  renameSync(`${root}-mounted`, root);
  await mark.check();
});

t.test('the mark of another pool, or none that can be read, is no mark', async (t) => {
  const { markOf, path } = lab(t);
  const mark = markOf();
  await mark.prepare(OURS);
  const text = readFileSync(path, 'utf8');
  const other = text.replace(/"id":"[^"]*"/, '"id":"11111111-1111-4111-8111-111111111111"');
  for (const [bytes, message] of [
    [other, /bears the mark of another pool/],
    ['', /is no mark/],
    ['{"version":1}', /is no mark/],
    [`${text.trim().slice(0, -1)},"more":1}`, /is no mark/],
    ['\0'.repeat(100_000), /is no mark/],
  ] as const) {
    writeFileSync(path, bytes);
    await t.rejects(mark.check(), { code: 'UNAVAILABLE', message });
  }
  writeFileSync(path, text);
  await mark.check();
});

t.test(
  'a marked folder is taken where the state of the node was lost, but not from another host',
  async (t) => {
    const { markOf, path, forget } = lab(t);
    await markOf().prepare(OURS);
    const text = readFileSync(path, 'utf8');
    forget();
    await t.rejects(markOf({ machine: 'elsewhere' }).prepare(OURS), {
      code: 'HOST_CONFLICT',
      message: /another host has marked it/,
    });
    await markOf().prepare(OURS);
    t.equal(readFileSync(path, 'utf8'), text);
    await markOf({ machine: null }).check();
  },
);

t.test('one folder cannot be two pools, whatever paths lead to it', async (t) => {
  const { folder, root, markOf } = lab(t);
  const known: KnownMarks = new Map();
  await markOf({ known }).prepare(OURS);
  symlinkSync(root, join(folder, 'alias'));
  const alias = markOf({ name: 'slow', root: join(folder, 'alias'), known });
  await t.rejects(alias.prepare(OURS), { code: 'HOST_CONFLICT' });
  const bound = markOf({ name: 'slow', known });
  await t.rejects(bound.prepare(OURS), { code: 'HOST_CONFLICT', message: /the folder of pool fast, too/ });
});

t.test('a folder that holds something else is no pool', async (t) => {
  const { root, markOf, path } = lab(t);
  for (const name of ['lost+found', 'images', 'volumes']) mkdirSync(join(root, name));
  writeFileSync(join(root, 'thesis.tex'), '');
  await t.rejects(markOf().prepare(OURS), {
    code: 'HOST_CONFLICT',
    message: /holds thesis.tex, and no mark/,
  });
  t.throws(() => readFileSync(path), { code: 'ENOENT' });
  rmSync(join(root, 'thesis.tex'));
  await markOf().prepare(OURS);
  rmSync(root, { recursive: true });
  writeFileSync(root, '');
  await t.rejects(markOf({ name: 'other' }).prepare(OURS), {
    code: 'HOST_CONFLICT',
    message: /it is no folder/,
  });
});
