/** Images through the agent: uploads, checks, pins, the cache's age, and what a crash leaves of them. */
import { request } from 'node:http';
import t, { type Test } from 'tap';
import { dueForCheck, evictions, type CachedImage } from '../../src/agent/images/keeper.ts';
import { AgentError, type ErrorBody } from '../../src/model/errors.ts';
import type { Operation } from '../../src/model/operation.ts';
import { image as sampleImage } from '../cli/support/fixtures.ts';
import { IMAGE, prepare, readyAgent, type SimAgent, simAgent, spec } from './support/sim-agent.ts';

const HOUR_MS = 3600_000;

/** Sends bytes as `berth image upload` does. */
async function put(
  sim: SimAgent,
  path: string,
  body: Buffer,
  headers: object = { 'content-type': 'application/octet-stream' },
): Promise<{ status: number; body: { at?: number; error?: ErrorBody } }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: { at?: number } }>();
  const options = { socketPath: sim.socketPath, method: 'PUT', path, headers: { ...headers } };
  const call = request(options, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
  });
  call.on('error', reject);
  call.end(body);
  return sim.passTimeUntil(promise);
}

async function beginUpload(sim: SimAgent, sizeBytes: number): Promise<Operation> {
  return (await sim.call('image.upload', { name: 'mine', sizeBytes })).operation;
}

async function damage(sim: SimAgent, name: string): Promise<void> {
  const { image } = await sim.call('image.show', { id: name });
  sim.world.outside.damageImage(sim.agent.services.pool.paths.image(image.id, image.format));
}

t.test('an upload that the pool has no room for ends with its bytes', async (t) => {
  const sim = await simAgent(t);
  const { id, target } = await beginUpload(sim, 10);
  const path = `/v1/uploads/${target.id}`;
  t.match(await put(sim, `${path}?at=0`, Buffer.from('01234')), { status: 200 });
  sim.world.faults.fail('storage.appendUpload', new AgentError('CAPACITY_EXCEEDED', 'full'), { times: 1 });
  t.match(await put(sim, `${path}?at=5`, Buffer.from('56')), {
    body: { error: { code: 'CAPACITY_EXCEEDED' } },
  });
  t.match(await sim.ended(id), { state: 'failed', error: { code: 'CAPACITY_EXCEEDED' } });
  t.same(sim.files, []);
});

t.test('an upload is an operation that ends when the last byte has come', async (t) => {
  const sim = await simAgent(t);
  const { id, target } = await beginUpload(sim, 10);
  const path = `/v1/uploads/${target.id}`;
  t.match(await put(sim, `${path}?at=0`, Buffer.from('01234')), { status: 200, body: { at: 5 } });
  t.match((await sim.call('operation.get', { id })).operation.progress, {
    step: 'receive',
    phase: 'receiving',
    bytes: { done: 5, total: 10 },
  });
  t.match(await put(sim, `${path}?at=0`, Buffer.from('01234')), {
    body: { error: { code: 'STALE', details: { at: 5 } } },
  });
  t.match(await put(sim, `${path}?at=5`, Buffer.from('56789x')), {
    body: { error: { code: 'LIMIT_REACHED' } },
  });
  t.match(await put(sim, `${path}?at=5`, Buffer.from('56789')), { body: { at: 10 } });
  t.equal((await sim.ended(id)).state, 'succeeded');
  t.match((await sim.call('image.show', { id: 'mine' })).image, { state: 'ready', sizeBytes: 10 });
  t.match(await put(sim, `${path}?at=10`, Buffer.from('x')), { body: { error: { code: 'ILLEGAL_STATE' } } });
});

t.test('what is no upload, or no bytes, is refused', async (t) => {
  const sim = await simAgent(t);
  const { id, target } = await beginUpload(sim, 10);
  const path = `/v1/uploads/${target.id}`;
  const invalid = { body: { error: { code: 'INVALID_ARGUMENT' } } };
  t.match(await put(sim, `${path}?at=-1`, Buffer.from('x')), invalid);
  t.match(await put(sim, path, Buffer.from('x')), invalid);
  t.match(await put(sim, '/v1/uploads/..%2f..%2fetc?at=0', Buffer.from('x')), invalid);
  t.match(await put(sim, `${path}?at=0`, Buffer.from('{}'), { 'content-type': 'application/json' }), invalid);
  const stranger = '/v1/uploads/00000000-0000-4000-8000-000000000000?at=0';
  t.match(await put(sim, stranger, Buffer.from('x')), { body: { error: { code: 'ILLEGAL_STATE' } } });
  await sim.call('operation.cancel', { id });
  t.equal((await sim.ended(id)).state, 'cancelled');
  t.same(sim.files, []);
});

t.test('the bytes of an upload come by messages, too, as the link of a scheduler brings them', async (t) => {
  const sim = await simAgent(t);
  const { id, target } = await beginUpload(sim, 10);
  const { id: image } = target;
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  t.same(await sim.call('image.append', { image }), { at: 0 });
  t.same(await sim.call('image.append', { image, data: base64('01234') }), { at: 5 });
  t.same(await sim.call('image.append', { image }), { at: 5 });
  const stale = { code: 'STALE', details: { at: 5 } };
  await t.rejects(sim.call('image.append', { image, at: 4, data: base64('4') }), stale);
  const invalid = { code: 'INVALID_ARGUMENT' };
  for (const data of ['MDEy\n', 'MDE', 'M=Ey', '#!'])
    await t.rejects(sim.call('image.append', { image, data }), invalid);
  await t.rejects(sim.call('image.append', { image: '../../etc', data: '' }), invalid);
  await t.rejects(sim.call('image.append', { image, at: 5, data: base64('567890') }), {
    code: 'LIMIT_REACHED',
  });
  t.same(await sim.call('image.append', { image, at: 5, data: base64('56789') }), { at: 10 });
  t.equal((await sim.ended(id)).state, 'succeeded');
});

t.test('an upload goes on after a crash of the agent, from where it was', async (t) => {
  const sim = await simAgent(t);
  const { id, target } = await beginUpload(sim, 10);
  await put(sim, `/v1/uploads/${target.id}?at=0`, Buffer.from('0123456'));
  await sim.crash();
  await sim.restart();
  t.match(await put(sim, `/v1/uploads/${target.id}?at=7`, Buffer.from('789')), { body: { at: 10 } });
  t.equal((await sim.ended(id)).state, 'succeeded');
});

t.test('an upload whose caller stays away is undone, and leaves nothing', async (t) => {
  const sim = await simAgent(t);
  const { id, target } = await beginUpload(sim, 10);
  await put(sim, `/v1/uploads/${target.id}?at=0`, Buffer.from('0'));
  const ended = await sim.ended(id);
  t.match(ended, {
    state: 'failed',
    error: { code: 'DEADLINE_EXCEEDED', message: /No bytes .* for 10 minutes/ },
  });
  t.same(sim.files, []);
  t.same((await sim.call('image.list')).images, []);
});

t.test('an import knows its source format, its mirrors, and the machine of an OVA', async (t) => {
  const sim = await simAgent(t);
  const hardware = {
    name: 'Old Server',
    vcpus: 2,
    memoryMib: 2048,
    firmware: 'uefi',
    operatingSystem: null,
    disks: [],
    nics: [],
  } as const;
  const facts = { sha256: 'b'.repeat(64), sizeBytes: 1000, virtualSizeBytes: 1024 ** 3 };
  sim.world.sources.set('https://b/old.ova', { ...facts, hardware: { ...hardware, disks: [], nics: [] } });
  const params = {
    name: 'old',
    source: 'https://a/old.ova',
    mirrors: ['https://b/old.ova'],
    format: 'ova',
  } as const;
  t.equal((await sim.run('image.import', { ...params, mirrors: [...params.mirrors] })).state, 'succeeded');
  t.match((await sim.call('image.show', { id: 'old' })).image, {
    format: 'qcow2',
    sourceFormat: 'ova',
    hardware,
  });
});

t.test('an import from a path of the host needs an admin, wherever the path is said', async (t) => {
  const sim = await simAgent(t);
  const web = 'https://a/x.qcow2';
  for (const params of [
    { source: IMAGE },
    { source: web, mirrors: [IMAGE] },
    { source: web, signature: IMAGE },
  ]) {
    const call = sim.agent.dispatcher.call('image.import', { name: 'x', ...params }, { role: 'operate' });
    await t.rejects(call, { code: 'PERMISSION_DENIED', message: /needs the role admin/ });
  }
});

t.test(
  'a changed base is found before a guest boots from it, and all who stand on it are told',
  async (t) => {
    const sim = await readyAgent(t);
    await sim.run('instance.create', { spec: spec('web') });
    await sim.run('instance.stop', { id: 'web', mode: 'forced' });
    await damage(sim, 'debian');
    const start = await sim.run('instance.start', { id: 'web' });
    t.match(start, {
      state: 'failed',
      error: { code: 'IMAGE_REFUSED', message: /Image debian was changed after it was made/ },
    });
    t.match((await sim.call('image.show', { id: 'debian' })).image, {
      state: 'damaged',
      damage: /bytes are others/,
    });
    t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: 'stopped' });
    const { events } = await sim.call('event.list', {});
    const { id } = (await sim.call('instance.show', { id: 'web' })).instance;
    t.match(events.find(({ type }) => type === 'image.damaged')?.data, { instances: [id] });
    t.match(events.find(({ type }) => type === 'instance.base-damaged')?.target, {
      kind: 'instance',
      name: 'web',
    });
    t.equal(events.filter(({ type }) => type === 'image.damaged').length, 1);
    await t.rejects(sim.call('volume.create', { name: 'data', sizeGib: 4, image: 'debian' }), {
      code: 'ILLEGAL_STATE',
      message: /Image debian is damaged/,
    });
    await t.rejects(sim.call('instance.create', { spec: spec('two') }), { code: 'ILLEGAL_STATE' });
  },
);

t.test('a damaged image that was mended is ready again when it is verified', async (t) => {
  const sim = await readyAgent(t);
  await damage(sim, 'debian');
  const failed = await sim.run('image.verify', { id: 'debian' });
  t.match(failed, { state: 'failed', error: { code: 'IMAGE_REFUSED' } });
  t.equal((await sim.call('image.show', { id: 'debian' })).image.state, 'damaged');
  const { image } = await sim.call('image.show', { id: 'debian' });
  sim.world.outside.mendImage(sim.agent.services.pool.paths.image(image.id, image.format));
  t.equal((await sim.run('image.verify', { id: 'debian' })).state, 'succeeded');
  t.match((await sim.call('image.show', { id: 'debian' })).image, { state: 'ready', damage: null });
  t.equal((await sim.run('volume.create', { name: 'data', sizeGib: 4, image: 'debian' })).state, 'succeeded');
});

t.test('an image is pinned and unpinned at once, and only where there is one', async (t) => {
  const sim = await readyAgent(t);
  t.equal((await sim.call('image.pin', { id: 'debian' })).operation.state, 'succeeded');
  t.equal((await sim.call('image.show', { id: 'debian' })).image.pinned, true);
  t.equal((await sim.call('image.pin', { id: 'debian', pinned: true })).operation.state, 'succeeded');
  await sim.call('image.pin', { id: 'debian', pinned: false });
  t.equal((await sim.call('image.show', { id: 'debian' })).image.pinned, false);
  await t.rejects(sim.call('image.pin', { id: 'nothing' }), { code: 'NOT_FOUND' });
});

t.test('the oldest check is repeated when it is due, without being asked', async (t) => {
  const sim = await readyAgent(t);
  const before = (await sim.call('image.show', { id: 'debian' })).image.verifiedAt;
  await damage(sim, 'debian');
  await sim.clock.advance(169 * HOUR_MS);
  await sim.until(() => sim.agent.services.store.operations.unfinished().length === 0);
  const { image } = await sim.call('image.show', { id: 'debian' });
  t.equal(image.state, 'damaged');
  t.not(image.verifiedAt, before);
  const checks = await sim.call('operation.list', { limit: 10 });
  t.match(
    checks.operations.find(({ kind }) => kind === 'image.verify'),
    { askedBy: 'image-policy' },
    'and nobody is told to have asked for it',
  );
});

t.test(
  'an export that is cut off at any driver call is finished by the next agent, and made once',
  async (t) => {
    const sim = await simAgent(t);
    await prepare(sim);
    await sim.run('volume.create', { name: 'data', sizeGib: 4, image: 'debian' });
    for (let n = 1; ; n++) {
      const path = `/srv/out-${n}.raw`;
      const crashed = await crashAt(sim, n, { id: 'data', path, format: 'raw', key: `export-${n}` });
      if (crashed) await sim.restart();
      const { operation } = await sim.call('volume.export', {
        id: 'data',
        path,
        format: 'raw',
        key: `export-${n}`,
      });
      t.equal((await sim.ended(operation.id)).state, 'succeeded', `moment ${n}`);
      t.equal(sim.world.exports.paths.length, n);
      if (!crashed) break;
      t.ok(n < 20, 'it comes to an end');
    }
  },
);

t.test(
  'a volume of a running instance is not given away, and what another has put there stays',
  async (t) => {
    const sim = await readyAgent(t);
    await sim.run('instance.create', { spec: spec('web') });
    const { disks } = (await sim.call('instance.show', { id: 'web' })).instance;
    const id = disks[0]?.volume ?? '';
    await t.rejects(sim.call('volume.export', { id, path: '/srv/web.raw' }), {
      code: 'ILLEGAL_STATE',
      message: /is running/,
    });
    await sim.run('instance.stop', { id: 'web', mode: 'forced' });
    t.equal((await sim.run('volume.export', { id, path: '/srv/web.raw' })).state, 'succeeded');
    const again = await sim.run('volume.export', { id, path: '/srv/web.raw' });
    t.match(again, { state: 'failed', error: { code: 'ALREADY_EXISTS' } });
    t.same(sim.world.exports.paths, ['/srv/web.raw']);
    const { events } = await sim.call('event.list', {});
    t.match(events.find(({ type }) => type === 'volume.exported')?.data, {
      path: '/srv/web.raw',
      sha256: /^[0-9a-f]{64}$/,
    });
  },
);

/** Kills the agent at the `n`th moment of the driver calls of an export; false when there is none. */
async function crashAt(sim: SimAgent, n: number, params: object): Promise<boolean> {
  let moments = 0;
  let crashed = false;
  const forget = sim.world.faults.onCall(({ name }) => {
    if (!/Export|exportVolume/.test(name) || ++moments !== n) return;
    crashed = true;
    return new Promise<void>(() => undefined);
  });
  await sim.call('volume.export', params);
  await sim.until(() => crashed || sim.agent.services.store.operations.unfinished().length === 0);
  forget();
  if (crashed) await sim.crash();
  return crashed;
}

const NOW_MS = Date.parse('2026-03-10T00:00:00.000Z');

function cached(name: string, changes: Partial<CachedImage> = {}): CachedImage {
  const at = '2026-03-01T00:00:00.000Z';
  const made = sampleImage({
    name,
    fileSha256: name,
    sizeBytes: 10,
    createdAt: at,
    lastUsedAt: at,
    verifiedAt: at,
  });
  return { ...made, volumes: 0, ...changes };
}

function evicted(t: Test, images: CachedImage[], budgetBytes: number, names: string[]) {
  t.same(
    evictions(images, budgetBytes, NOW_MS).map(({ name }) => name),
    names,
  );
}

t.test('the images that were not used for longest go, until the rest fits', async (t) => {
  const images = [
    cached('new', { lastUsedAt: '2026-03-09T00:00:00.000Z' }),
    cached('old', { lastUsedAt: '2026-03-02T00:00:00.000Z' }),
    cached('never', { lastUsedAt: null }),
  ];
  evicted(t, images, 30, []);
  evicted(t, images, 29, ['never']);
  evicted(t, images, 10, ['never', 'old']);
  evicted(t, images, 1, ['never', 'old', 'new']);
  evicted(t, images, 0, []);
});

t.test('what is pinned, in use, young, or not ready stays whatever the budget', async (t) => {
  const kept = [
    cached('pinned', { pinned: true }),
    cached('in-use', { volumes: 1 }),
    cached('young', { createdAt: '2026-03-09T23:30:00.000Z' }),
    cached('importing', { state: 'importing' }),
    cached('damaged', { state: 'damaged' }),
  ];
  evicted(t, kept, 1, []);
});

t.test('images of one file take its room once', async (t) => {
  const twins = [cached('a', { fileSha256: 'x' }), cached('b', { fileSha256: 'x' }), cached('c')];
  evicted(t, twins, 20, []);
  evicted(t, twins, 10, ['a', 'b']);
});

t.test('of the images whose check is old, the oldest is due; with 0 none ever is', async (t) => {
  const images = [
    cached('a'),
    cached('b', { verifiedAt: '2026-02-01T00:00:00.000Z' }),
    cached('c', { state: 'damaged' }),
  ];
  t.equal(dueForCheck(images, 24 * HOUR_MS, NOW_MS)?.name, 'b');
  t.equal(dueForCheck(images, 1000 * HOUR_MS, NOW_MS), null);
  t.equal(dueForCheck(images, 0, NOW_MS), null);
});
