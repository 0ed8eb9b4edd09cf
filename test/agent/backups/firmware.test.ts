/** Firmware variables of UEFI guests in backups: they come back with the instance, or it is said that they do not. */
import t, { type Test } from 'tap';
import type { Backup, BackupManifest } from '../../../src/model/backup.ts';
import type { Params } from '../../../src/model/methods.ts';
import { prepare, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

const CONFIG = '[[objects]]\nname = "backups"\npath = "/mnt/backup"\n';
const GIB = 1024 ** 3;
const HOUR_MS = 3_600_000;
const OWN = 'boot entries of web';

async function node(t: Test): Promise<SimAgent> {
  const sim = await simAgent(t, { config: CONFIG });
  await prepare(sim);
  return sim;
}

async function withUefi(t: Test, more: Partial<Params<'instance.create'>['spec']> = {}): Promise<SimAgent> {
  const sim = await node(t);
  const made = await sim.run('instance.create', { spec: spec('web', { firmware: 'uefi', ...more }) });
  if (made.state !== 'succeeded') throw new Error(made.error?.message);
  return sim;
}

function variablesOf({ world }: SimAgent, name: string): string | undefined {
  return [...world.kept.values()].find(({ guestName }) => guestName === `berth-${name}`)?.text;
}

/** What a guest's system keeps there. */
function setVariables({ world }: SimAgent, text: string): void {
  for (const kept of world.kept.values()) if (kept.guestName === 'berth-web') kept.text = text;
}

async function backUp(sim: SimAgent): Promise<Backup> {
  const ended = await sim.run('backup.create', { id: 'web' });
  if (ended.state !== 'succeeded') throw new Error(ended.error?.message);
  return (await sim.call('backup.list')).backups.at(-1) as Backup;
}

function asNew({ store, id, instanceId, volumes, spec: was }: Backup, name = 'again') {
  const disks = volumes.map(({ virtualSizeBytes }) => ({ sizeGib: Math.ceil(virtualSizeBytes / GIB) }));
  const { shares: _shares, ...rest } = was;
  return {
    ...{ store, id, instanceId, volumes: volumes.map((volume) => volume.id) },
    spec: { ...rest, name, disks, nics: [] },
  };
}

async function told(sim: SimAgent): Promise<Record<string, unknown>> {
  const { events } = await sim.call('event.list', { after: 0 });
  const found = events.findLast(({ type }) => type === 'backup.recreated');
  return (found?.data ?? {}) as Record<string, unknown>;
}

function chunks({ world }: SimAgent): string[] {
  return [...world.bucket('backups').objects.keys()].filter((key) => key.includes('/chunks/'));
}

for (const power of ['running', 'stopped'] as const) {
  t.test(`an instance of a guest that was ${power} begins with the variables of its backup`, async (t) => {
    const sim = await withUefi(t);
    if (power === 'stopped') await sim.run('instance.stop', { id: 'web', mode: 'forced' });
    setVariables(sim, OWN);
    const backup = await backUp(sim);
    t.same(backup.nvram, { sizeBytes: OWN.length });
    t.notOk(
      sim.files.some(({ path }) => path.endsWith('.nvram')),
      'nothing is left beside the volume',
    );
    setVariables(sim, 'changed since');
    t.match(await sim.run('backup.recreate', asNew(backup)), { state: 'succeeded' });
    t.equal(variablesOf(sim, 'again'), OWN);
    t.match(await told(sim), { firmware: 'restored', sharesLeft: [] });
    t.equal(variablesOf(sim, 'web'), 'changed since', 'the guest of before keeps its own');
    t.match(await sim.run('instance.delete', { id: 'again' }), { state: 'succeeded' });
    t.equal(variablesOf(sim, 'again'), undefined, 'they go with it');
    t.same(sim.world.mishaps, []);
  });
}

t.test('an instance begins with those of a new machine where that is asked for', async (t) => {
  const sim = await withUefi(t);
  setVariables(sim, OWN);
  const backup = await backUp(sim);
  await sim.run('backup.recreate', { ...asNew(backup), freshFirmware: true });
  t.equal(variablesOf(sim, 'again'), 'new');
  t.match(await told(sim), { firmware: 'fresh' });
});

t.test('a guest without variables has none in its backup, and a restore says so', async (t) => {
  const sim = await withUefi(t);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  sim.world.kept.clear();
  const backup = await backUp(sim);
  t.equal(backup.nvram, null);
  await sim.run('backup.recreate', asNew(backup));
  t.match(await told(sim), { firmware: 'none-in-backup' });
  t.match((await sim.call('instance.show', { id: 'again' })).instance.power, { state: 'running' });
});

t.test('of a BIOS guest nothing is kept, and its manifest is one that older versions read', async (t) => {
  const sim = await withUefi(t, { firmware: 'bios' });
  const backup = await backUp(sim);
  t.match(backup, { nvram: null, shares: [] });
  t.match(await manifestIn(sim, backup), { version: 2, nvram: undefined, shares: undefined });
  await sim.run('backup.recreate', asNew(backup));
  t.notMatch(await told(sim), { firmware: /./ });
});

t.test('variables that have not changed are kept once', async (t) => {
  const sim = await withUefi(t);
  setVariables(sim, OWN);
  const first = await backUp(sim);
  const before = chunks(sim);
  const second = await backUp(sim);
  t.equal((await manifestIn(sim, first)).nvram?.chunk, (await manifestIn(sim, second)).nvram?.chunk);
  setVariables(sim, 'another boot entry');
  const third = await backUp(sim);
  const { chunk } = (await manifestIn(sim, third)).nvram ?? {};
  t.same(before.length, new Set(before).size);
  t.notOk(before.some((key) => key.endsWith(chunk ?? '')));
});

t.test('they go with the last backup that has them, and not before', async (t) => {
  const sim = await withUefi(t);
  setVariables(sim, OWN);
  const first = await backUp(sim);
  const { chunk = '' } = (await manifestIn(sim, first)).nvram ?? {};
  const second = await backUp(sim);
  const isThere = () => chunks(sim).some((key) => key.endsWith(chunk));
  await sim.clock.advance(2 * HOUR_MS);
  const remove = ({ store, id, instanceId }: Backup) => sim.run('backup.delete', { store, id, instanceId });
  t.match(await remove(first), { state: 'succeeded' });
  t.ok(isThere());
  t.match(await sim.run('backup.verify', its(second)), { state: 'succeeded' });
  t.match(await remove(second), { state: 'succeeded' });
  t.notOk(isThere());
});

t.test(
  'variables that are gone or damaged are found by verify, and no instance is made of them',
  async (t) => {
    for (const restore of [false, true]) {
      const sim = await withUefi(t);
      setVariables(sim, OWN);
      const backup = await backUp(sim);
      const { chunk = '' } = (await manifestIn(sim, backup)).nvram ?? {};
      const { objects } = sim.world.bucket('backups');
      const key = chunks(sim).find((each) => each.endsWith(chunk)) ?? '';
      t.ok(objects.delete(key));
      const found = await sim.run('backup.verify', { ...its(backup), restore });
      t.match(found, { state: 'failed', error: { code: 'DATA_DAMAGED' } });
      const files = kept(sim);
      const made = await sim.run('backup.recreate', asNew(backup));
      t.match(made, { state: 'failed', error: { code: 'DATA_DAMAGED' } });
      t.equal(kept(sim), files, 'nothing is left of it');
      t.match(await sim.run('backup.recreate', { ...asNew(backup), freshFirmware: true }), {
        state: 'succeeded',
      });
    }
  },
);

t.test('a restore says which shares it has not brought back', async (t) => {
  const sim = await node(t);
  await sim.run('share.create', { name: 'data' });
  await sim.run('share.create', { name: 'logs' });
  await sim.run('instance.create', {
    spec: spec('web', { shares: [{ share: 'data', access: 'read-write' }] }),
  });
  await sim.run('share.attach', { id: 'logs', instance: 'web', tag: 'log', access: 'read-only' });
  const backup = await backUp(sim);
  t.match(backup.shares, [
    { share: 'data', tag: 'data', access: 'read-write' },
    { share: 'logs', tag: 'log', access: 'read-only' },
  ]);
  await sim.run('backup.recreate', asNew(backup));
  t.match(await told(sim), { sharesLeft: ['data', 'logs'] });
  const { spec: wanted, ...rest } = asNew(backup, 'third');
  const shares = [{ share: 'data', access: 'read-write' as const }];
  t.match(await sim.run('backup.recreate', { ...rest, spec: { ...wanted, shares } }), { state: 'succeeded' });
  t.match(await told(sim), { sharesLeft: ['logs'] });
});

/** Files but for the console's log, which comes when the guest boots. */
function kept(sim: SimAgent): number {
  return sim.files.filter(({ kind }) => kind !== 'console').length;
}

function its({ store, id, instanceId }: Backup) {
  return { store, id, instanceId };
}

/** As it lies in the store. */
async function manifestIn(sim: SimAgent, { store, instanceId, id }: Backup): Promise<BackupManifest> {
  const repository = await sim.agent.services.repositories.open(store);
  return (await sim.passTimeUntil(repository.manifest(instanceId, id))) as BackupManifest;
}
