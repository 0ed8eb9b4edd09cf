/** Shares through the agent: made, attached, detached, configured and deleted; drift, leaks, and a lost database. */
import t from 'tap';
import type { Params } from '../../src/model/methods.ts';
import { readyAgent, type SimAgent, spec } from './support/sim-agent.ts';
import { deleteDatabase } from './support/state.ts';

async function withInstance(sim: SimAgent, name = 'web') {
  const { state } = await sim.run('instance.create', { spec: spec(name) });
  if (state !== 'succeeded') throw new Error(`the instance is ${state}`);
  await sim.until(() => guestOf(sim, name)?.booted === true);
}

/** Stopped, given the share, and started with it. */
async function startWith(sim: SimAgent, id: string, change: Partial<Params<'share.attach'>> = {}) {
  await sim.run('share.create', { name: id });
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  const attached = await sim.run('share.attach', { id, instance: 'web', ...change });
  if (attached.state !== 'succeeded') throw new Error(attached.error?.message);
  await sim.run('instance.start', { id: 'web' });
  await sim.until(() => guestOf(sim, 'web')?.booted === true);
}

function guestOf(sim: SimAgent, name: string) {
  return sim.guests.find((guest) => guest.name === `berth-${name}`);
}

async function sharesOf(sim: SimAgent, instance = 'web') {
  return (await sim.call('instance.show', { id: instance })).instance.shares;
}

async function shown(sim: SimAgent, id: string) {
  return (await sim.call('share.show', { id })).share;
}

async function usedGib(sim: SimAgent): Promise<number> {
  return (await sim.call('inventory.get')).resources.DISK_GB.used;
}

t.test('a share is made, counted by its quota, and deleted with what is in it', async (t) => {
  const sim = await readyAgent(t);
  const before = await usedGib(sim);
  t.match(await sim.run('share.create', { name: 'files', quotaGib: 10 }), {
    state: 'succeeded',
    target: { kind: 'share', name: 'files' },
  });
  t.equal(await usedGib(sim), before + 10);
  const { share, path } = await sim.call('share.show', { id: 'files' });
  t.match(share, { name: 'files', quotaGib: 10, protected: false, state: 'ready', users: [] });
  t.match(path, new RegExp(`/shares/${share.id}$`));
  sim.world.outside.writeIntoShare(path, 3);
  t.match(await sim.run('share.delete', { id: 'files' }), { state: 'succeeded' });
  t.equal(await usedGib(sim), before);
  t.same((await sim.call('share.list')).shares, []);
  t.notOk(sim.files.some(({ kind }) => kind === 'share'));
});

t.test('a quota that the disk does not keep makes no share', async (t) => {
  const sim = await readyAgent(t);
  sim.world.settings.projectQuotas = false;
  const before = await usedGib(sim);
  const ended = await sim.run('share.create', { name: 'files', quotaGib: 10 });
  t.match(ended, { state: 'failed', error: { code: 'UNSUPPORTED', message: /project quotas/ } });
  t.equal(await usedGib(sim), before);
  t.same((await sim.call('share.list')).shares, []);
  t.match(await sim.run('share.create', { name: 'files' }), { state: 'succeeded' }, 'without one it is made');
});

t.test('a stopped instance gets shares with its next start, and keeps them over more of these', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  const definedBefore = structuredClone(guestOf(sim, 'web')?.definition);
  t.notMatch(JSON.stringify(definedBefore), /share/, 'without shares it is defined as ever');
  await startWith(sim, 'files', { tag: 'data', access: 'read-only' });
  const { id } = await shown(sim, 'files');
  const path = sim.agent.services.pool.paths.share(id);
  t.same(guestOf(sim, 'web')?.live?.shares, [{ tag: 'data', path, readOnly: true }]);
  t.same(await sharesOf(sim), [{ shareId: id, share: 'files', tag: 'data', access: 'read-only' }]);
  t.match((await shown(sim, 'files')).users, [{ instance: 'web', tag: 'data', access: 'read-only' }]);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('instance.start', { id: 'web' });
  t.match(guestOf(sim, 'web')?.live?.shares, [{ tag: 'data' }]);
});

t.test('an instance is made with its shares, which its guest has at its first boot', async (t) => {
  const sim = await readyAgent(t);
  for (const name of ['files', 'conf', 'more']) await sim.run('share.create', { name });
  const shares = [
    { share: 'files', tag: 'data', access: 'read-write' as const },
    { share: 'conf', access: 'read-only' as const },
  ];
  const made = await sim.run('instance.create', { spec: spec('web', { shares }) });
  t.match(made, { state: 'succeeded' });
  t.match(guestOf(sim, 'web')?.live?.shares, [
    { tag: 'data', readOnly: false },
    { tag: 'conf', readOnly: true },
  ]);
  t.match(await sharesOf(sim), [
    { share: 'files', tag: 'data', access: 'read-write' },
    { share: 'conf', tag: 'conf', access: 'read-only' },
  ]);
  t.match(await sim.run('share.attach', { id: 'more', instance: 'web' }), { state: 'succeeded' });
  t.equal(guestOf(sim, 'web')?.live?.shares?.length, 3, 'and gets others while it runs');
  const { instance } = await sim.call('instance.show', { id: 'web' });
  t.same(instance.drift, []);
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  t.equal((await sharesOf(sim)).length, 3, 'its shares come back with it');
  t.match((await sim.call('instance.show', { id: 'web' })).instance.spec.shares, shares);
  await sim.run('instance.delete', { id: 'web' });
  t.same((await shown(sim, 'files')).users, []);
});

t.test('an instance whose shares are not to be had is not made, and leaves nothing', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('share.create', { name: 'files' });
  await sim.run('share.create', { name: 'a'.repeat(40) });
  const files = { share: 'files', access: 'read-write' as const };
  const refused = async (code: string, ...shares: object[]) =>
    t.rejects(
      sim.call('instance.create', { spec: spec('web', { shares: shares as (typeof files)[] }) }),
      { code },
      JSON.stringify(shares).slice(0, 80),
    );
  await refused('NOT_FOUND', { ...files, share: 'none' });
  await refused('ALREADY_EXISTS', files, files);
  await refused('ALREADY_EXISTS', files, { ...files, share: 'a'.repeat(40), tag: 'files' });
  await refused('INVALID_ARGUMENT', { ...files, share: 'a'.repeat(40) });
  await refused('INVALID_ARGUMENT', { ...files, tag: 'no such tag' });
  await refused('INVALID_ARGUMENT', { ...files, tag: '../data' });
  await refused('INVALID_ARGUMENT', { ...files, access: 'write-only' });
  await refused('INVALID_ARGUMENT', { ...files, path: '/etc' });
  await refused('INVALID_ARGUMENT', ...Array.from({ length: 17 }, (_one, n) => ({ ...files, tag: `t${n}` })));
  t.same((await sim.call('instance.list')).instances, []);
  t.same((await shown(sim, 'files')).users, []);
  sim.world.settings.sharesMissing = 'virtiofsd is not installed';
  const ended = await sim.run('instance.create', { spec: spec('web', { shares: [files] }) });
  t.match(ended, { state: 'failed', error: { code: 'UNSUPPORTED', message: /virtiofsd is not installed/ } });
  t.same((await shown(sim, 'files')).users, []);
  t.same(sim.guests, []);
  t.match(await sim.run('instance.create', { spec: spec('web') }), { state: 'succeeded' }, 'without any');
});

t.test('a share is not deleted while an instance is made with it', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('share.create', { name: 'files' });
  const release = sim.world.faults.hang('storage.makeVolume');
  const shares = [{ share: 'files', access: 'read-write' as const }];
  const { operation } = await sim.call('instance.create', { spec: spec('web', { shares }) });
  await t.rejects(sim.call('share.delete', { id: 'files' }), { code: 'ILLEGAL_STATE', message: /in use/ });
  await sim.call('operation.cancel', { id: operation.id });
  release();
  t.match(await sim.ended(operation.id), { state: 'cancelled' });
  t.match(await sim.run('share.delete', { id: 'files' }), { state: 'succeeded' });
});

t.test('a guest that was started without shares is given none while it runs', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('share.create', { name: 'files' });
  const before = structuredClone(guestOf(sim, 'web'));
  const ended = await sim.run('share.attach', { id: 'files', instance: 'web' });
  t.match(ended, { state: 'failed', error: { code: 'ILLEGAL_STATE', message: /started without a share/ } });
  t.same(await sharesOf(sim), []);
  t.same(guestOf(sim, 'web')?.definition?.shares, undefined);
  t.same(guestOf(sim, 'web')?.live, before?.live);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
});

t.test('one that was started with a share gets others at once, and lets each of them go', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await startWith(sim, 'first');
  await sim.run('share.create', { name: 'second' });
  t.match(await sim.run('share.attach', { id: 'second', instance: 'web' }), { state: 'succeeded' });
  t.match(await sim.run('share.attach', { id: 'second', instance: 'web' }), { state: 'succeeded' }, 'again');
  t.match(guestOf(sim, 'web')?.live?.shares, [{ tag: 'first' }, { tag: 'second' }]);
  t.match(guestOf(sim, 'web')?.definition?.shares, [{ tag: 'first' }, { tag: 'second' }]);
  t.match(await sim.run('share.detach', { id: 'first', instance: 'web' }), { state: 'succeeded' });
  t.match(await sim.run('share.detach', { id: 'first', instance: 'web' }), { state: 'succeeded' }, 'again');
  t.match(guestOf(sim, 'web')?.live?.shares, [{ tag: 'second' }]);
  t.match(await sharesOf(sim), [{ share: 'second' }]);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  t.same(sim.world.mishaps, []);
});

t.test('a guest that does not let go keeps its share', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await startWith(sim, 'files');
  const guest = guestOf(sim, 'web');
  if (guest !== undefined) guest.obeys = false;
  const ended = await sim.run('share.detach', { id: 'files', instance: 'web', timeoutSeconds: 5 });
  t.match(ended, { state: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
  t.match(guest?.live?.shares, [{ tag: 'files' }]);
  t.match(guest?.definition?.shares, [{ tag: 'files' }]);
  t.match(await sharesOf(sim), [{ share: 'files' }]);
  await t.rejects(sim.call('share.delete', { id: 'files' }), { code: 'ILLEGAL_STATE', message: /in use/ });
});

t.test('what is attached while another share is on its way out does not bring that back', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await startWith(sim, 'old');
  await sim.run('share.create', { name: 'new' });
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  const release = sim.world.faults.hang('hypervisor.define');
  const detaching = await sim.call('share.detach', { id: 'old', instance: 'web' });
  const attaching = await sim.call('share.attach', { id: 'new', instance: 'web' });
  release();
  await sim.ended(detaching.operation.id);
  await sim.ended(attaching.operation.id);
  t.match(
    guestOf(sim, 'web')?.definition?.shares?.map(({ tag }) => tag),
    ['new'],
  );
  t.match(
    (await sharesOf(sim)).map(({ tag }) => tag),
    ['new'],
  );
});

t.test('two instances have one share, and it goes with neither of them', async (t) => {
  const sim = await readyAgent(t);
  for (const name of ['web', 'db']) await withInstance(sim, name);
  await sim.run('share.create', { name: 'files' });
  for (const id of ['web', 'db']) {
    await sim.run('instance.stop', { id, mode: 'forced' });
    t.match(await sim.run('share.attach', { id: 'files', instance: id }), { state: 'succeeded' });
    await sim.run('instance.start', { id });
  }
  t.same(
    (await shown(sim, 'files')).users.map(({ instance }) => instance),
    ['db', 'web'],
  );
  await sim.run('instance.delete', { id: 'web' });
  t.same(
    (await shown(sim, 'files')).users.map(({ instance }) => instance),
    ['db'],
  );
  t.match(guestOf(sim, 'db')?.live?.shares, [{ tag: 'files' }]);
  await sim.run('instance.delete', { id: 'db' });
  t.match(await sim.run('share.delete', { id: 'files' }), { state: 'succeeded' });
  t.same(sim.world.mishaps, []);
});

t.test('what cannot be attached is refused with its reason', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await startWith(sim, 'files', { tag: 'data' });
  await sim.run('share.create', { name: 'other' });
  const longName = 'a'.repeat(40);
  await sim.run('share.create', { name: longName });
  const refused = (code: string, message: RegExp, params: Partial<Params<'share.attach'>>) =>
    t.rejects(sim.call('share.attach', params), { code, message });
  await refused('ALREADY_EXISTS', /has it as data/, { id: 'files', instance: 'web', tag: 'more' });
  await refused('ALREADY_EXISTS', /has it as data/, {
    id: 'files',
    instance: 'web',
    tag: 'data',
    access: 'read-only',
  });
  await refused('ALREADY_EXISTS', /the tag data/, { id: 'other', instance: 'web', tag: 'data' });
  await refused('INVALID_ARGUMENT', /too long for a tag/, { id: longName, instance: 'web' });
  await refused('NOT_FOUND', /No share/, { id: 'nothing', instance: 'web' });
  await refused('NOT_FOUND', /No instance/, { id: 'files', instance: 'none' });
  await refused('STALE', /generation/, { id: 'other', instance: 'web', generation: 1 });
  for (const tag of ['', '../x', 'a b', 'x'.repeat(37), '-x', 'a\n'])
    await refused('INVALID_ARGUMENT', /tag/, { id: 'other', instance: 'web', tag });
  const words = { id: 'other', instance: 'web', access: 'write-only' } as never;
  await refused('INVALID_ARGUMENT', /access/, words);
  for (const quotaGib of [0, -1, 1.5, 65_537])
    await t.rejects(sim.call('share.create', { name: 'x', quotaGib }), { code: 'INVALID_ARGUMENT' });
  await t.rejects(sim.call('share.create', { name: '../x' }), { code: 'INVALID_ARGUMENT' });
  await t.rejects(sim.call('share.create', { name: 'files' }), { code: 'ALREADY_EXISTS' });
  await t.rejects(sim.call('share.create', { name: 'x', quotaGib: 60_000 }), { code: 'CAPACITY_EXCEEDED' });
});

t.test('a host that serves no shares says so before any guest has one', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('share.create', { name: 'files' });
  sim.world.settings.sharesMissing = 'virtiofsd is not installed';
  const ended = await sim.run('share.attach', { id: 'files', instance: 'web' });
  t.match(ended, { state: 'failed', error: { code: 'UNSUPPORTED', message: /virtiofsd is not installed/ } });
  t.equal(guestOf(sim, 'web')?.definition?.shares, undefined);
  const { findings } = await sim.call('node.doctor');
  t.match(
    findings.find(({ check }) => check === 'shares'),
    { verdict: 'warning', message: /virtiofsd is not installed/ },
  );
});

t.test('a share is renamed, protected and given another quota, and its instances show it', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await startWith(sim, 'files', { tag: 'data' });
  const before = await usedGib(sim);
  const change = { name: 'documents', protected: true, quotaGib: 5 };
  t.match(await sim.run('share.configure', { id: 'files', ...change }), { state: 'succeeded' });
  t.match(await shown(sim, 'documents'), change);
  t.equal(await usedGib(sim), before + 5);
  t.match(await sharesOf(sim), [{ share: 'documents', tag: 'data' }]);
  await sim.run('share.configure', { id: 'documents', quotaGib: null });
  t.equal(await usedGib(sim), before);
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('share.detach', { id: 'documents', instance: 'web' });
  await t.rejects(sim.call('share.delete', { id: 'documents' }), { message: /protected/ });
  await sim.run('share.configure', { id: 'documents', protected: false });
  t.match(await sim.run('share.delete', { id: 'documents' }), { state: 'succeeded' });
});

t.test('a configuration that the host refuses is taken back', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('share.create', { name: 'files' });
  sim.world.settings.projectQuotas = false;
  const before = await usedGib(sim);
  const ended = await sim.run('share.configure', { id: 'files', name: 'other', quotaGib: 5 });
  t.match(ended, { state: 'failed', error: { code: 'UNSUPPORTED' } });
  t.match(await shown(sim, 'files'), { quotaGib: null });
  t.equal(await usedGib(sim), before);
});

t.test('a share that others take from a running guest, or from its definition, is drift', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await startWith(sim, 'files', { tag: 'data' });
  const guest = guestOf(sim, 'web');
  sim.world.outside.detachShare(guest?.id ?? '', 'data');
  const drift = async () => (await sim.call('instance.show', { id: 'web' })).instance.drift;
  await sim.passTimeUntil(sim.agent.services.observer.lookAgain());
  t.match(await drift(), [
    { kind: 'share-detached', remedy: 'after-stop', detail: /share data .*running guest/ },
  ]);
});

t.test('a folder that nothing owns is a leak, and is removed only while it is empty', async (t) => {
  const sim = await readyAgent(t);
  const ids: string[] = [];
  for (const name of ['empty', 'full']) {
    await sim.run('share.create', { name });
    ids.push((await shown(sim, name)).id);
  }
  const [empty, full] = ids.map((id) => sim.agent.services.pool.paths.share(id)) as [string, string];
  sim.world.outside.writeIntoShare(full, 2);
  const { store } = sim.agent.services;
  store.db.transaction(() => {
    for (const id of ids) store.shares.remove(id);
  });
  await sim.call('node.leaks');
  await sim.clock.advance(11_000);
  const { leaks } = await sim.call('node.leaks');
  t.match(
    leaks.find(({ name }) => name === empty),
    { kind: 'share', blocked: null, confirmed: true },
  );
  t.match(
    leaks.find(({ name }) => name === full),
    { kind: 'share', blocked: /holds files/ },
  );
  await sim.run('node.collect', {});
  t.notOk(sim.world.files.has(empty));
  t.ok(sim.world.files.has(full));
});

t.test('shares, and who has them, are known again without a database', async (t) => {
  const sim = await readyAgent(t);
  await withInstance(sim);
  await startWith(sim, 'files', { tag: 'data', access: 'read-only' });
  await sim.run('share.create', { name: 'spare', quotaGib: 3, protected: true });
  const [files, spare] = [await shown(sim, 'files'), await shown(sim, 'spare')];
  const usedBefore = await usedGib(sim);
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  t.same(await shown(sim, 'files'), files);
  t.same(await shown(sim, 'spare'), spare);
  t.same(await sharesOf(sim), [{ shareId: files.id, share: 'files', tag: 'data', access: 'read-only' }]);
  t.equal(await usedGib(sim), usedBefore);
  t.same((await sim.call('instance.show', { id: 'web' })).instance.drift, []);
  t.match(await sim.run('share.detach', { id: 'files', instance: 'web' }), { state: 'succeeded' });
});
