/**
 * The power is cut while operations run: database, log and host are as they were at one moment. The next start
 * begins from there, and ends right.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { prepare, SimAgent, spec } from '../support/sim-agent.ts';
import { auditAgainstHost, DATABASE, setAside } from '../support/state.ts';

/** Of so many moments of driver calls one is kept. */
const EVERY = 1;

t.test('a copy of database, log and host of any moment is taken up, and ends right', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'berth-cut-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const folder = join(root, 'node');
  mkdirSync(folder);
  const sim = new SimAgent({ folder, statePath: join(root, 'world.json') });
  await sim.start();
  await prepare(sim);
  const cuts: string[] = [];
  let moments = 0;
  sim.world.faults.onCall(() => {
    if (moments++ % EVERY !== 0) return;
    const cut = join(root, `cut-${cuts.length}`);
    mkdirSync(cut);
    for (const name of ['', '-wal', '.open'].map((suffix) => DATABASE + suffix).concat('node.json')) {
      if (existsSync(join(folder, name))) copyFileSync(join(folder, name), join(cut, name));
    }
    copyFileSync(join(root, 'world.json'), `${cut}.world`);
    cuts.push(cut);
  });
  const asked = await Promise.all([
    sim.call('instance.create', { spec: spec('a'), key: 'a' }),
    sim.call('instance.create', { spec: spec('b'), key: 'b' }),
    sim.call('volume.create', { name: 'data', sizeGib: 1, key: 'data' }),
  ]);
  for (const { operation } of asked) t.equal((await sim.ended(operation.id)).state, 'succeeded');
  await sim.run('instance.stop', { id: 'a', mode: 'forced' });
  await sim.run('instance.start', { id: 'a' });
  await sim.run('instance.delete', { id: 'b' });
  await sim.run('volume.delete', { id: 'data' });
  await sim.stop();
  t.ok(cuts.length > 20, `${cuts.length} cuts`);
  for (const cut of cuts) {
    const next = new SimAgent({ folder: cut, statePath: `${cut}.world` });
    await next.start();
    await next.until(() => next.agent.services.store.operations.unfinished().length === 0);
    auditAgainstHost(t, next, cut);
    t.same(setAside(next), [], 'nothing was damaged');
    t.ok(
      next.agent.services.store.operations.list({ limit: 100 }).every(({ state }) => state === 'succeeded'),
    );
    await next.stop();
  }
});

t.test('a log of a cut with a byte changed in it loses no guest', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'berth-cut-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const folder = join(root, 'node');
  mkdirSync(folder);
  const sim = new SimAgent({ folder, statePath: join(root, 'world.json') });
  await sim.start();
  await prepare(sim);
  for (const name of ['a', 'b', 'c']) await sim.run('instance.create', { spec: spec(name) });
  const ids = sim.guests.map(({ id }) => id).sort();
  cpSync(folder, join(root, 'cut'), { recursive: true, filter: (path) => !path.endsWith('.sock') });
  copyFileSync(join(root, 'world.json'), join(root, 'cut.world'));
  await sim.stop();
  const { readFileSync, writeFileSync } = await import('node:fs');
  const log = readFileSync(join(root, 'cut', `${DATABASE}-wal`));
  for (let part = 1; part < 40; part++) {
    const each = join(root, `changed-${part}`);
    cpSync(join(root, 'cut'), each, { recursive: true });
    copyFileSync(join(root, 'cut.world'), `${each}.world`);
    const bytes = Buffer.from(log);
    const at = Math.floor((bytes.length * part) / 40);
    bytes[at] = (bytes[at] as number) ^ 0x10;
    writeFileSync(join(each, `${DATABASE}-wal`), bytes);
    const next = new SimAgent({ folder: each, statePath: `${each}.world` });
    await next.start();
    await next.until(() => next.agent.services.store.operations.unfinished().length === 0);
    t.same(
      next.agent.services.store.instances
        .list()
        .map(({ id }) => id)
        .sort(),
      ids,
      `byte ${at}`,
    );
    auditAgainstHost(t, next, `byte ${at}`);
    await next.stop();
  }
});
