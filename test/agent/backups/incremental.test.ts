/** Backups of what has changed, through the agent: what they go on from, and why one is a full one. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Pace } from '../../../src/agent/backups/pace.ts';
import type { DiskExtent } from '../../../src/drivers/contracts/extents.ts';
import { SimClock, type SimWorld } from '../../../src/drivers/sim/index.ts';
import { type Backup, CHAIN_LIMIT } from '../../../src/model/backup.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { Params } from '../../../src/model/methods.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import { prepare, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';

/** @param keyFile Of the stores; null for stores in clear. */
function configOf(keyFile: string | null): string {
  const stores = ['near', 'far'].map(
    (name) => `
[[objects]]
name = "${name}"
endpoint = "http://127.0.0.1:9000"
bucket = "${name}"
credentialsFile = "/nowhere"
${keyFile === null ? '' : `backupKeyFile = "${keyFile}"`}
`,
  );
  return stores.join('');
}

/** Of the disk that the guest writes to. */
type Kind = 'in clear' | 'encrypted';

/** A guest that crashed stays down. */
const REPORT_ONLY = { ...DEFAULT_POLICIES, onCrash: { action: 'report', limit: 5 } } as const;

class Lab {
  readonly sim: SimAgent;
  readonly data: string;

  constructor(sim: SimAgent, data: string) {
    this.sim = sim;
    this.data = data;
  }

  static async make(t: Test, kind: Kind = 'in clear'): Promise<Lab> {
    const keyFile = kind === 'in clear' ? null : join(t.testdir(), 'key');
    if (keyFile !== null) writeFileSync(keyFile, 'ab'.repeat(32), { mode: 0o600 });
    const sim = await simAgent(t, { config: configOf(keyFile), objectStores: ['near', 'far'] });
    await prepare(sim);
    const encryption = keyFile === null ? null : { key: 'disks' };
    await sim.run('volume.create', { name: 'data', sizeGib: 2, encryption });
    const disks = [{ image: 'debian', sizeGib: 4 }, { volume: 'data' }];
    await sim.run('instance.create', { spec: spec('web', { disks, policies: REPORT_ONLY }) });
    const { volume } = await sim.call('volume.show', { id: 'data' });
    return new Lab(sim, volume.id);
  }

  get world(): SimWorld {
    return this.sim.world;
  }

  /** What a guest writes to its second disk. */
  write(content: string): void {
    const [guest] = this.sim.guests;
    const disks = guest?.live?.disks ?? guest?.definition?.disks ?? [];
    const path = disks.find((disk) => disk.path?.includes(this.data))?.path ?? '';
    const file = this.world.files.get(path);
    if (file?.volume) file.volume.content = content;
  }

  async backUp(params: Partial<Params<'backup.create'>> = {}): Promise<Backup> {
    await this.sim.clock.advance(1000);
    const store = params.store ?? 'near';
    const ended = await this.sim.run('backup.create', { id: 'web', store, ...params });
    if (ended.state !== 'succeeded') throw new AgentError('INTERNAL', ended.error?.message ?? ended.state);
    const { backups } = await this.sim.call('backup.list', { store });
    return backups.toSorted((a, b) => Date.parse(a.createdAt) - Date.parse(b.createdAt)).at(-1) as Backup;
  }

  async contentOf({ store, id, instanceId }: Backup, name: string): Promise<string | undefined> {
    const params = { store, id, instanceId, volumeId: this.data, name, sizeGib: 2 };
    const operation = await this.sim.run('backup.restore', params);
    if (operation.state !== 'succeeded') throw new Error(operation.error?.message);
    const { volume } = await this.sim.call('volume.show', { id: name });
    return [...this.world.files.all()].find((file) => file.id === volume.id && file.volume !== null)?.volume
      ?.content;
  }

  checkpoints(): string[] {
    return this.sim.guests.flatMap(({ checkpoints = [] }) => checkpoints.map(({ name }) => name));
  }

  deltas(): string[] {
    return this.sim.files.map(({ path }) => path).filter((path) => /\.(copy|delta)/.test(path));
  }
}

for (const kind of ['in clear', 'encrypted'] as const) {
  t.test(`a chain of backups of a guest that writes holds each of its moments, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    const contents = ['one', 'one two', 'one two three', '', 'four', 'four'];
    const made: Backup[] = [];
    for (const content of contents) {
      lab.write(content);
      made.push(await lab.backUp());
      t.same(lab.checkpoints(), [`berth-${made.at(-1)?.id}`], 'the newest alone');
    }
    t.match(made[0], { parentId: null, full: { code: 'no-checkpoint' } });
    for (const [place, backup] of made.entries()) {
      if (place > 0) t.match(backup, { parentId: made[place - 1]?.id, full: null });
      t.equal(await lab.contentOf(backup, `at-${place}`), contents[place]);
    }
    t.equal(made[1]?.volumes[1]?.dataBytes, ' two'.length, 'only what has changed was read');
    t.same(lab.deltas(), []);
    const { store, instanceId, id } = made[0] as Backup;
    await lab.sim.run('backup.delete', { store, instanceId, id });
    t.equal(await lab.contentOf(made[2] as Backup, 'without-its-first'), 'one two three');
    t.same(lab.world.mishaps, []);
  });

  t.test(`a chain goes on over snapshots and their merging, and ends with a revert, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    const { sim } = lab;
    lab.write('one');
    const first = await lab.backUp();
    await sim.run('snapshot.create', { id: 'web', name: 'then' });
    lab.write('one two');
    const second = await lab.backUp();
    t.match(second, { parentId: first.id, full: null }, 'on the layer of a snapshot');
    await sim.run('snapshot.create', { id: 'web', name: 'later' });
    await sim.run('snapshot.delete', { id: 'web', snapshot: 'later' });
    await sim.run('snapshot.merge', { id: 'web' });
    lab.write('one two three');
    const third = await lab.backUp();
    t.match(third, { parentId: second.id, full: null }, 'and after one was merged');
    await sim.run('snapshot.revert', { id: 'web', snapshot: 'then', force: true, start: true });
    const fourth = await lab.backUp();
    t.match(fourth, { parentId: null, full: { code: 'no-checkpoint' } });
    await sim.run('instance.stop', { id: 'web', mode: 'forced' });
    const fifth = await lab.backUp();
    t.match(fifth, { parentId: null, full: { code: 'layered' } });
    const contents = ['one', 'one two', 'one two three', 'one', 'one'];
    for (const [place, backup] of [first, second, third, fourth, fifth].entries())
      t.equal(await lab.contentOf(backup, `at-${place}`), contents[place]);
    await sim.run('instance.start', { id: 'web' });
    await lab.backUp();
    await sim.run('instance.stop', { id: 'web', mode: 'forced' });
    await sim.run('snapshot.delete', { id: 'web', snapshot: 'then' });
    await sim.run('snapshot.merge', { id: 'web' });
    t.same(lab.checkpoints(), [], 'what is merged at rest is in no bitmap');
    t.same(sim.world.mishaps, []);
  });

  t.test(`a full one says why it is full, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    const first = await lab.backUp();
    t.match((await lab.backUp({ full: true })).full, { code: 'asked' });
    t.match((await lab.backUp({ store: 'far' })).full, { code: 'other-store' });
    t.match((await lab.backUp({ store: 'far' })).full, null);
    const { store, id, instanceId } = await lab.backUp();
    t.not(id, first.id);
    await lab.sim.run('backup.delete', { store, id, instanceId });
    t.match((await lab.backUp()).full, { code: 'other-store' }, 'its backup was deleted');
    await lab.sim.run('volume.create', { name: 'more', sizeGib: 1 });
    await lab.sim.run('volume.attach', { id: 'more', instance: 'web' });
    t.match((await lab.backUp()).full, { code: 'disks-changed' });
    await lab.sim.run('volume.detach', { id: 'more' });
    t.match((await lab.backUp()).full, null, 'one that has gone is no reason');
  });

  t.test(`a disk that has grown is gone on with, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    await lab.backUp();
    await lab.sim.run('volume.grow', { id: 'data', sizeGib: 3 });
    lab.write('more');
    const backup = await lab.backUp();
    t.match(backup, { full: null, volumes: [{}, { virtualSizeBytes: 3 * 1024 ** 3 }] });
  });

  t.test(`the chain ends at its limit, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    for (let depth = 0; depth < CHAIN_LIMIT; depth++) await lab.backUp();
    t.match((await lab.backUp()).full, { code: 'chain-limit' });
    t.equal((await lab.backUp()).full, null);
  });

  t.test(`what a killed guest has not saved is read again, running or stopped, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    const [guest] = lab.sim.guests;
    lab.write('before');
    await lab.backUp();
    lab.world.outside.crash(guest?.id as string);
    lab.write('lost track of');
    const stopped = await lab.backUp();
    t.match(stopped.full, { code: 'bitmap-lost' });
    t.equal(await lab.contentOf(stopped, 'stopped'), 'lost track of');
    await lab.sim.run('instance.start', { id: 'web' });
    const running = await lab.backUp();
    t.match(running.full, { code: 'bitmap-lost' });
    t.equal(await lab.contentOf(running, 'running'), 'lost track of');
    t.same(lab.checkpoints(), [`berth-${running.id}`]);
    t.equal((await lab.backUp()).full, null, 'and then all is well');
  });

  t.test(
    `a stopped guest is backed up by what it has saved, and goes on from the same one, ${kind}`,
    async (t) => {
      const lab = await Lab.make(t, kind);
      lab.write('first');
      const first = await lab.backUp();
      lab.write('first, then');
      await lab.sim.run('instance.stop', { id: 'web', mode: 'forced' });
      const stopped = await lab.backUp();
      t.match(stopped, { parentId: first.id, volumes: [{ dataBytes: 0 }, { dataBytes: ', then'.length }] });
      t.same(lab.checkpoints(), [`berth-${first.id}`], 'it makes none');
      await lab.sim.run('instance.start', { id: 'web' });
      lab.write('first, then, later');
      const later = await lab.backUp();
      t.equal(later.parentId, first.id);
      for (const [backup, content] of [
        [stopped, 'first, then'],
        [later, 'first, then, later'],
      ] as const)
        t.equal(await lab.contentOf(backup, `b-${backup.id.slice(0, 8)}`), content);
    },
  );

  t.test(`a backup that fails leaves the one before to go on from, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    lab.write('first');
    const first = await lab.backUp();
    lab.write('second');
    lab.world.faults.fail('objects.put', new AgentError('PERMISSION_DENIED', 'not with this key'));
    await t.rejects(lab.backUp(), /not with this key|PERMISSION_DENIED|failed/);
    lab.world.faults.clear();
    t.same(lab.checkpoints(), [`berth-${first.id}`]);
    t.same(lab.deltas(), []);
    const second = await lab.backUp();
    t.equal(second.parentId, first.id);
    t.equal(await lab.contentOf(second, 'second'), 'second');
  });

  t.test(`changes that are lost in the last moment make a full one, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    await lab.backUp();
    const lost = new AgentError('DATA_DAMAGED', 'missing or broken bitmap');
    lab.world.faults.fail('hypervisor.copyDisks', lost, { times: 1 });
    t.match((await lab.backUp()).full, { code: 'bitmap-lost', message: /missing or broken/ });
  });

  t.test(
    `a backup whose parent is deleted while its disks are copied fails, and the next is full, ${kind}`,
    async (t) => {
      const lab = await Lab.make(t, kind);
      const { id, instanceId } = await lab.backUp();
      lab.world.faults.onCall(({ name }, when) => {
        if (name === 'hypervisor.copyDisks' && when === 'after')
          lab.world.bucket('near').objects.delete(`backups/manifests/${instanceId}/${id}`);
      });
      await t.rejects(lab.backUp(), /deleted meanwhile/);
      lab.world.faults.clear();
      t.match((await lab.backUp()).full, { code: 'other-store' });
    },
  );

  t.test(`an agent that is killed amid an incremental backup goes on with it, ${kind}`, async (t) => {
    const lab = await Lab.make(t, kind);
    lab.write('first');
    const first = await lab.backUp();
    lab.write('second');
    lab.world.faults.hang('objects.put');
    const { operation } = await lab.sim.call('backup.create', { id: 'web', store: 'near' });
    await lab.sim.until(() => lab.deltas().length > 0);
    await lab.sim.crash();
    lab.world.faults.clear();
    lab.write('third');
    await lab.sim.restart();
    t.match(await lab.sim.ended(operation.id), { state: 'succeeded' });
    const [, second] = (await lab.sim.call('backup.list', { store: 'near' })).backups;
    t.equal(second?.parentId, first.id);
    t.match(await lab.contentOf(second as Backup, 'after-a-crash'), /second|third/);
    const third = await lab.backUp();
    t.equal(await lab.contentOf(third, 'third'), 'third');
  });
}

t.test('a bandwidth that none can have is refused', async (t) => {
  const lab = await Lab.make(t);
  for (const bandwidthMibPerSecond of [0, -1, 1.5, 1e9, '1' as unknown as number])
    await t.rejects(lab.sim.call('backup.create', { id: 'web', store: 'near', bandwidthMibPerSecond }), {
      code: 'INVALID_ARGUMENT',
    });
  t.match(await lab.backUp({ bandwidthMibPerSecond: 1 }), { parentId: null });
});

t.test('disks are read at the pace that is asked for, one after the other', async (t) => {
  const clock = new SimClock();
  const startMs = clock.monotonicMs();
  const pace = new Pace(clock, 100);
  const extents = async function* (): AsyncGenerator<DiskExtent> {
    for (let offset = 0; offset < 1000; offset += 100)
      yield { type: 'data', offset, data: Buffer.alloc(100) };
    yield { type: 'zero', offset: 1000, length: 1_000_000 };
  };
  const read = async () => {
    for (let disk = 0; disk < 2; disk++)
      for await (const extent of pace.keep(extents(), AbortSignal.any([]))) void extent;
    return clock.monotonicMs() - startMs;
  };
  const reading = read();
  for (let second = 0; second < 30; second++) await clock.advance(1000);
  t.equal(await reading, 19_000, 'the first hundred bytes at once, and the last after 19 s');
});
