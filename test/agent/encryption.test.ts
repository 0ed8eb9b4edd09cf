/** Encrypted volumes as callers ask for them: what is refused, what follows from what, and what goes with a volume. */
import t, { type Test } from 'tap';
import { IMAGE, type SimAgent, simAgent, spec } from './support/sim-agent.ts';

const BY_DISKS = { key: 'disks' };

async function node(t: Test): Promise<SimAgent> {
  const sim = await simAgent(t);
  await sim.run('image.import', { name: 'debian', source: IMAGE });
  return sim;
}

async function withSecret(t: Test): Promise<SimAgent> {
  const sim = await node(t);
  await sim.run('volume.create', { name: 'secret', sizeGib: 1, encryption: BY_DISKS });
  return sim;
}

async function idOf(sim: SimAgent, volume: string): Promise<string> {
  return (await sim.call('volume.show', { id: volume })).volume.id;
}

t.test(
  'a key that the node does not have, or that is none, is refused before anything is made',
  async (t) => {
    const sim = await node(t);
    const before = sim.files.length;
    const asked = { name: 'secret', sizeGib: 1 };
    await t.rejects(sim.call('volume.create', { ...asked, encryption: { key: 'lost' } }), {
      code: 'NOT_FOUND',
      message: /no encryption key lost; it has disks, other/,
    });
    for (const encryption of [
      { key: 'none' },
      { key: '../x' },
      { key: '' },
      {},
      'disks',
      { key: 'disks', iv: 1 },
    ])
      await t.rejects(sim.call('volume.create', { ...asked, encryption } as never), {
        code: 'INVALID_ARGUMENT',
      });
    const disks = [{ image: 'debian', encryption: { key: 'lost' } }];
    await t.rejects(sim.call('instance.create', { spec: spec('web', { disks, nics: [] }) }), {
      code: 'NOT_FOUND',
    });
    t.same((await sim.call('volume.list')).volumes, []);
    t.same((await sim.call('instance.list')).instances, []);
    t.equal(sim.files.length, before);
  },
);

t.test('an existing volume is encrypted as it is, whatever a spec says', async (t) => {
  const sim = await withSecret(t);
  for (const encryption of [BY_DISKS, null]) {
    const disks = [{ image: 'debian' }, { volume: 'secret', encryption }];
    await t.rejects(sim.call('instance.create', { spec: spec('web', { disks, nics: [] }) }), {
      code: 'INVALID_ARGUMENT',
      message: /is encrypted as that is/,
    });
  }
});

t.test('its passphrase is with the hypervisor from the start on, and goes with the volume', async (t) => {
  const sim = await withSecret(t);
  const disks = [{ image: 'debian', encryption: BY_DISKS }, { volume: 'secret' }];
  await sim.run('instance.create', { spec: spec('web', { disks, nics: [] }) });
  const ids = [await idOf(sim, 'web-disk0'), await idOf(sim, 'secret')];
  t.same(new Set(sim.world.secrets.keys()), new Set(ids));
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  sim.world.secrets.clear();
  t.match(await sim.run('instance.start', { id: 'web' }), { state: 'succeeded' });
  t.same(new Set(sim.world.secrets.keys()), new Set(ids), 'it is given anew to a host that has lost it');
  await sim.run('instance.delete', { id: 'web' });
  t.same([...sim.world.secrets.keys()], [ids[1]]);
  await sim.run('volume.delete', { id: 'secret' });
  t.equal(sim.world.secrets.size, 0);
});

t.test('a start with another key, or none, fails by its own code, and nothing is started', async (t) => {
  const sim = await withSecret(t);
  await sim.run('instance.create', {
    spec: spec('web', { disks: [{ image: 'debian' }, { volume: 'secret' }], nics: [] }),
  });
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  const { keys } = sim.world.settings;
  const word = keys['disks'] as string;
  keys['disks'] = 'another';
  t.match(await sim.run('instance.start', { id: 'web' }), { error: { code: 'PERMISSION_DENIED' } });
  delete keys['disks'];
  t.match(await sim.run('instance.start', { id: 'web' }), { error: { code: 'NOT_FOUND' } });
  t.match(sim.guests, [{ power: 'stopped' }]);
  keys['disks'] = word;
  t.match(await sim.run('instance.start', { id: 'web' }), { state: 'succeeded' });
});

t.test('a copy is in clear, and an export is made, only where that is said', async (t) => {
  const sim = await withSecret(t);
  const copy = { sizeGib: 1, volume: 'secret' };
  await sim.run('volume.create', { ...copy, name: 'same' });
  await sim.run('volume.create', { ...copy, name: 'rekeyed', encryption: { key: 'other' } });
  await sim.run('volume.create', { ...copy, name: 'clear', encryption: null });
  const { volumes } = await sim.call('volume.list');
  const keys = Object.fromEntries(volumes.map(({ name, encryption }) => [name, encryption?.key ?? null]));
  t.same(keys, { clear: null, rekeyed: 'other', same: 'disks', secret: 'disks' });
  await t.rejects(sim.call('volume.export', { id: 'secret', path: '/out.qcow2' }), {
    code: 'ILLEGAL_STATE',
    hint: /--decrypt/,
  });
  t.match(await sim.run('volume.export', { id: 'secret', path: '/out.qcow2', decrypt: true }), {
    state: 'succeeded',
  });
});

t.test('memory is not kept of a guest with an encrypted disk, and its disks are', async (t) => {
  const sim = await withSecret(t);
  await sim.run('instance.create', {
    spec: spec('web', { disks: [{ image: 'debian' }, { volume: 'secret' }], nics: [] }),
  });
  await t.rejects(sim.call('snapshot.create', { id: 'web', memory: true }), {
    code: 'UNSUPPORTED',
    message: /volume secret is encrypted/,
    hint: /without memory/,
  });
  t.match(await sim.run('snapshot.create', { id: 'web' }), { state: 'succeeded' });
});

t.test('a backup goes to no store that keeps it in clear', async (t) => {
  const sim = await withSecret(t);
  await sim.run('instance.create', {
    spec: spec('web', { disks: [{ image: 'debian' }, { volume: 'secret' }], nics: [] }),
  });
  await t.rejects(sim.call('backup.create', { id: 'web' }), {
    code: 'ILLEGAL_STATE',
    message: /backups in backups are in clear/,
  });
});

t.test('what the database keeps of it is the name of its key', async (t) => {
  const sim = await withSecret(t);
  const id = await idOf(sim, 'secret');
  const passphrase = await sim.agent.services.keys.passphrase({ volumeId: id, key: 'disks' });
  const { db } = sim.agent.services.store;
  for (const table of ['volumes', 'operations', 'events', 'names'])
    t.notOk(JSON.stringify(db.sql(`SELECT * FROM ${table}`).all()).includes(passphrase), table);
  t.notOk(JSON.stringify(sim.logged).includes(passphrase));
});

t.test('doctor tells of each key, and of the volumes that are lost without one', async (t) => {
  const sim = await withSecret(t);
  const found = async (check: string) =>
    (await sim.call('node.doctor')).findings.find((finding) => finding.check === check);
  t.match(await found('key-disks'), { verdict: 'ok', message: /1 volumes are encrypted by key disks/ });
  delete sim.world.settings.keys['disks'];
  t.match(await found('key-disks'), { verdict: 'failure', message: /1 volumes can't be opened/ });
  t.match(await found('key-other'), { verdict: 'ok' });
});
