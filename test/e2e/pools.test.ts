/**
 * Several pools on a real node: one that hangs, as an NFS server that is away makes it hang, one that is not mounted, and
 * a guest with a disk in each.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Operation } from '../../src/model/operation.ts';
import { cannotRun, prepare, RealNode, spec, until } from './support/node.ts';
import { cannotMount, SlowFolder } from './support/slow-folder.ts';

const skip = cannotRun() || cannotMount();
const TEST_MS = 400_000;
/** Pools are measured every 30 s, and a look at one that hangs takes 10 s. */
const SEEN_MS = 120_000;
/** More than Node has threads by default, and than operations run at once. */
const CALLS = 24;

const slow = skip === false ? new SlowFolder() : null;
const folder = slow as SlowFolder;
const node = new RealNode({
  config: `[[pools]]\nname = "slow"\npath = "${slow?.path ?? '/srv'}"\ndiskRatio = 64\nreservedDiskGib = 0`,
});

if (skip === false) {
  await folder.mount();
  await node.start();
  await prepare(node);
}
t.teardown(async () => {
  if (skip !== false) return;
  folder.goOn();
  await node.remove();
  await folder.remove();
});

async function slowPool() {
  return (await node.call('pool.show', { id: 'slow' })).pool;
}

async function untilPool(state: string): Promise<void> {
  await until(`the pool is ${state}`, SEEN_MS, async () => (await slowPool()).health.state === state || null);
}

async function made(name: string, change: object = {}): Promise<Operation> {
  return node.run('volume.create', { name, sizeGib: 1, ...change });
}

t.test('a guest runs with a disk in each of two pools', { skip, timeout: TEST_MS }, async (t) => {
  const disks = [{ image: 'test' }, { image: 'test', pool: 'slow' }];
  t.match(await node.run('instance.create', { spec: spec('web', { disks }) }), { state: 'succeeded' });
  const { volumes } = await node.call('volume.list', {});
  const far = volumes.find(({ pool }) => pool === 'slow');
  t.ok(existsSync(join(folder.behind, 'volumes', `${far?.id}.qcow2`)));
  t.equal(readdirSync(join(folder.behind, 'images')).length, 2, 'its image, and the record of that');
  await node.untilAddress('web');
  t.match(await node.run('snapshot.create', { id: 'web', name: 'first' }), { state: 'succeeded' });
  t.equal(readdirSync(join(folder.behind, 'volumes')).filter((name) => name.includes('.qcow2')).length, 2);
  t.match(await node.run('snapshot.delete', { id: 'web', snapshot: 'first' }), { state: 'succeeded' });
  t.match(await node.run('snapshot.merge', { id: 'web' }), { state: 'succeeded' });
  t.match(await made('across', { volume: 'web-disk1', snapshot: 'none' }).catch((error) => error), {
    code: 'NOT_FOUND',
  });
  t.match(await node.run('instance.stop', { id: 'web', mode: 'forced' }), { state: 'succeeded' });
  t.match(
    await made('across', { volume: 'web-disk1' }),
    { state: 'succeeded' },
    'a copy in the default pool',
  );
  t.match(await node.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  t.same(readdirSync(join(folder.behind, 'volumes')), []);
});

t.test(
  'while a pool hangs everything else goes on, and nothing in it is lost',
  { skip, timeout: TEST_MS },
  async (t) => {
    t.match(await made('far', { pool: 'slow' }), { state: 'succeeded' });
    await untilPool('ok');
    folder.stop();
    const hung: Operation[] = [];
    for (let n = 0; n < CALLS; n++) {
      const params = { name: `hung-${n}`, sizeGib: 1, pool: 'slow' };
      hung.push((await node.call('volume.create', params)).operation);
    }
    t.match(await made('near'), { state: 'succeeded' }, 'the other pool works, with all threads that hang');
    t.match(await node.run('volume.delete', { id: 'near' }), { state: 'succeeded' });
    await untilPool('unavailable');
    t.match(await node.call('node.status', {}), {
      storage: { state: 'ok' },
      problems: [{ object: { kind: 'storage', name: 'slow' } }],
    });
    t.match((await node.call('volume.show', { id: 'far' })).volume, { state: 'ready', pool: 'slow' });
    t.match(await node.call('node.leaks', {}), { unknown: [{ part: 'files', pool: 'slow' }] });
    t.match(
      (await node.call('node.doctor', {})).findings.filter(({ check }) => check.startsWith('disk-space')),
      [
        { check: 'disk-space', verdict: 'ok' },
        { check: 'disk-space-slow', verdict: 'failure' },
      ],
    );
    await node.end('SIGTERM'); // it does not wait for the disk
    await node.start();
    t.match((await node.call('volume.show', { id: 'far' })).volume, { state: 'ready', pool: 'slow' });
    t.match(await made('near'), { state: 'succeeded' }, 'also after a start while it hangs');
    folder.goOn();
    await untilPool('ok');
    const ends = await Promise.all(hung.map((operation) => node.ended(operation)));
    t.ok(ends.every(({ state }) => state === 'succeeded' || state === 'failed'));
    t.match(
      await node.run('volume.grow', { id: 'far', sizeGib: 2 }),
      { state: 'succeeded' },
      'it is used again',
    );
    for (const { target, state } of ends)
      if (state === 'succeeded') await node.run('volume.delete', { id: target.name });
    t.match(await node.run('volume.delete', { id: 'far' }), { state: 'succeeded' });
    t.same(readdirSync(join(folder.behind, 'volumes')), [], 'and nothing is left of what has failed');
  },
);

t.test(
  'a pool that is not mounted is not written to, and its volumes stay',
  { skip, timeout: TEST_MS },
  async (t) => {
    t.match(await made('far', { pool: 'slow' }), { state: 'succeeded' });
    await folder.unmount();
    const { operation } = await node.call('volume.create', { name: 'lost', sizeGib: 1, pool: 'slow' });
    await untilPool('unavailable');
    t.match((await slowPool()).health.reason, /has lost its mark/);
    t.match(
      (await node.call('operation.get', { id: operation.id })).operation,
      { endedAt: null },
      'it waits',
    );
    await node.end('SIGTERM');
    await node.start();
    t.match((await node.call('volume.show', { id: 'far' })).volume, { state: 'ready' });
    t.match((await slowPool()).health.state, 'unavailable');
    t.same(readdirSync(folder.path), [], 'nothing lies below the mount');
    await folder.mount();
    t.equal((await node.ended(operation)).state, 'succeeded');
    await untilPool('ok');
    for (const id of ['far', 'lost'])
      t.match(await node.run('volume.delete', { id }), { state: 'succeeded' });
  },
);
