import { stripVTControlCharacters } from 'node:util';
import t from 'tap';
import type { NodeLoad } from '../../src/model/load.ts';
import type { Reservation } from '../../src/model/reservation.ts';
import type { UsageRecord } from '../../src/model/usage.ts';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import {
  ago,
  ended,
  event,
  FINDINGS,
  HEALTH,
  INVENTORY,
  idOf,
  image,
  instance,
  LEAKS,
  NODE_STATUS,
  network,
  operation,
  pool,
  share,
  volume,
} from './support/fixtures.ts';
import { matchesGolden } from './support/golden.ts';
import { berth } from './support/run.ts';

const GUEST = {
  seenAt: ago(5),
  addresses: [
    { interface: 'eth0', macAddress: '52:54:00:00:00:01', address: '10.80.0.2', prefix: 24 },
    { interface: 'eth0', macAddress: '52:54:00:00:00:01', address: 'fe80::1', prefix: 64 },
  ],
};

const INSTANCES = [
  instance({ guest: GUEST }),
  instance({
    id: idOf(11),
    name: 'web-with-a-longer-name',
    lifecycle: 'building',
    nics: [],
    createdAt: ago(4),
  }),
  instance({ id: idOf(12), name: 'db', power: { state: 'crashed', since: ago(9), reason: 'panicked' } }),
];

const AWAY = pool({
  name: 'nas',
  path: '/srv/nas',
  nfs: 'nas.example:/export/node1',
  fileSystem: null,
  shared: true,
  reflink: null,
  disk: null,
  bytes: null,
  measuredAt: null,
  volumes: 2,
  health: {
    state: 'unavailable',
    since: ago(90),
    reason: '/srv/nas is not pool nas: \u001b[31mit has lost its mark',
  },
});

const SHARED = instance({
  shares: [{ shareId: idOf(6), share: 'files', tag: 'data', access: 'read-only' }],
});

const DRIFTED = instance({
  drift: [
    {
      kind: 'size-changed',
      detail: 'its definition has 3 virtual CPUs instead of 1',
      since: ago(600),
      remedy: 'restore',
    },
    {
      kind: 'disk-attached',
      detail: 'a disk (/tmp/x\u001b[31m.raw, raw) was added to the running guest',
      since: ago(60),
      remedy: 'after-stop',
    },
  ],
  restores: { count: 5, lastAt: ago(300), givenUp: 'restored 5 times within an hour, and changed again' },
});

const FOREIGN = [
  {
    id: idOf(31),
    name: 'someone-elses',
    power: { state: 'running', reason: 'booted' },
    vcpus: 2,
    memoryMib: 2048,
  },
  { id: idOf(32), name: 'win\n11', power: { state: 'unknown', reason: 'gone' }, vcpus: 4, memoryMib: 512 },
] as const;

const FAILED = ended('failed', {
  id: idOf(8),
  error: { code: 'IMAGE_REFUSED', message: 'the image has a backing file', hint: 'Flatten it first.' },
});

/** One whose undo waits for another try, with two parts. */
const WHOLE = operation({
  id: idOf(20),
  state: 'undoing',
  retry: {
    step: 'define-domain',
    doing: 'undo',
    attempt: 4,
    since: ago(95),
    nextTryAt: ago(-12),
    error: { code: 'HOST_CONFLICT', message: 'the guest is not ours' },
    needsOperator: true,
  },
  children: { total: 2, ended: 1 },
});
const PARTS = [
  operation({ id: idOf(22), parentId: idOf(20) }),
  ended('succeeded', { id: idOf(21), parentId: idOf(20), target: { ...operation().target, name: 'other' } }),
];

const HUNG = {
  state: 'unavailable',
  since: ago(70),
  reason: 'Cannot reset guest: no answer from libvirt within 15000 ms',
  nextTryAt: ago(-20),
} as const;
const RECOVERY = {
  added: [
    { kind: 'instance' as const, id: idOf(10), name: 'web', note: null },
    { kind: 'volume' as const, id: idOf(11), name: 'volume-00000000', note: 'the host keeps no name of it' },
  ],
  leftOut: [
    { kind: 'instance' as const, id: idOf(12), name: 'berth-db', reason: 'its network lab is not taken' },
  ],
};

const EVENTS = [
  event(1, { type: 'instance.created', data: { instance: INSTANCES[1] } }),
  event(2, { data: { instance: INSTANCES[2] } }),
  event(3, {
    type: 'operation.changed',
    target: { kind: 'operation', id: idOf(7), name: 'instance.create' },
    data: { operation: operation() },
  }),
  event(4, {
    type: 'operation.changed',
    target: { kind: 'operation', id: idOf(8), name: 'instance.create' },
    data: { operation: FAILED },
  }),
  event(5, { type: 'hypervisor.changed', target: null, data: { state: 'unavailable', reason: 'hung up' } }),
  event(6, { type: 'inventory.changed', target: null, data: {} }),
  event(7, { data: { instance: 'nonsense', operation: null } }),
  event(8, { type: 'instance.drifted', data: { instance: DRIFTED } }),
  event(9, { type: 'instance.drifted', data: { instance: INSTANCES[0] } }),
];

const PERIOD = {
  id: idOf(40),
  objectId: idOf(1),
  periodStart: '2026-01-01T10:00:00.000Z',
  periodEnd: '2026-01-01T11:00:00.000Z',
  startedAt: '2026-01-01T10:00:00.000Z',
  endedAt: '2026-01-01T11:00:00.000Z',
  existedSeconds: 3600,
  measuredFrom: '2026-01-01T10:00:00.000Z',
  measuredUntil: '2026-01-01T11:00:00.000Z',
  incomplete: [],
};

const USAGE: UsageRecord[] = [
  {
    ...PERIOD,
    kind: 'instance',
    objectName: 'demo',
    instance: {
      allocatedVcpuSeconds: 7200,
      allocatedMemoryMibSeconds: 3_686_400,
      runningSeconds: 1800.5,
      cpuSeconds: 12.345_678_901,
      residentMemoryMibSeconds: 900_000,
      networkReceivedBytes: 1_572_864,
      networkReceivedPackets: 1000,
      networkSentBytes: 512,
      networkSentPackets: 8,
    },
    volume: null,
    incomplete: [
      { reason: 'end-not-read', seconds: 41.2 },
      { reason: 'began-late', seconds: 0 },
    ],
  },
  {
    ...PERIOD,
    kind: 'volume',
    objectName: 'demo-disk-0',
    instance: null,
    volume: {
      provisionedGibSeconds: 72_000,
      readRequests: 3,
      readBytes: 12_288,
      writeRequests: 7,
      writtenBytes: 41_943_040,
    },
  },
];

const LOAD: NodeLoad = {
  at: ago(0),
  seconds: 63.2,
  cpu: { busyPercent: 41.5, iowaitPercent: 0.3, stealPercent: 12, averages: [1.5, 0.25, 10] },
  memory: { totalMib: 24_105, availableMib: 20_000, usedPercent: 17, swapUsedMib: 0 },
  pools: [
    {
      name: 'default',
      totalBytes: 3_221_225_472_000,
      availableBytes: 1_099_511_627_776,
      measuredAt: ago(10),
    },
  ],
  levels: { cpu: 'low', steal: 'high', memory: 'low' },
};

const RESERVATIONS: Reservation[] = [
  {
    id: idOf(71),
    resources: {
      VCPU: 2,
      MEMORY_MB: 4200,
      DISK_GB: [
        { pool: 'default', gib: 20 },
        { pool: 'fast', gib: 1 },
      ],
    },
    note: 'for \u001b[31mweb',
    createdAt: ago(60),
    expiresAt: ago(-240),
    instanceId: null,
  },
  {
    id: idOf(72),
    resources: { DISK_GB: [{ pool: 'default', gib: 5 }] },
    note: '',
    createdAt: ago(60),
    expiresAt: ago(-540),
    instanceId: idOf(1),
  },
];

const HANDLERS: Handlers = {
  'node.status': () => NODE_STATUS,
  'node.doctor': () => ({ findings: FINDINGS }),
  'node.foreign': () => ({ guests: [...FOREIGN] }),
  'node.recover': ({ dryRun }) => ({ ...RECOVERY, dryRun }),
  'node.backup': ({ path }) => ({ path, bytes: 1_572_864, sha256: 'ab'.repeat(32) }),
  'inventory.get': () => INVENTORY,
  'node.load': () => LOAD,
  'reservation.list': () => ({ reservations: [...RESERVATIONS] }),
  'node.leaks': () => LEAKS,
  'instance.list': () => ({ instances: INSTANCES }),
  'instance.show': ({ id }) =>
    id === 'hung'
      ? { instance: INSTANCES[2]!, health: HUNG }
      : { instance: { drifted: DRIFTED, shared: SHARED }[id] ?? INSTANCES[0]!, health: HEALTH },
  'image.list': () => ({ images: [image(), image({ name: 'other', state: 'importing', sha256: null })] }),
  'image.show': () => ({ image: image() }),
  'volume.list': () => ({ volumes: [volume(), volume({ name: 'data', instanceId: null, sizeGib: 10 })] }),
  'volume.show': () => ({ volume: volume() }),
  'pool.list': () => ({ pools: [pool(), AWAY] }),
  'pool.show': ({ id }) => ({ pool: id === 'nas' ? AWAY : pool() }),
  'share.list': () => ({ shares: [share(), share({ name: 'spare', quotaGib: null, users: [] })] }),
  'share.show': () => ({ share: share(), path: `/var/lib/berth/pool/shares/${idOf(6)}` }),
  'network.list': () => ({ networks: [network(), network({ name: 'lab', nat: false, ports: 12 })] }),
  'network.show': () => ({ network: network() }),
  'operation.list': ({ parentId }) => ({ operations: parentId === idOf(20) ? PARTS : [operation(), FAILED] }),
  'operation.get': ({ id }) => ({ operation: { x: FAILED, whole: WHOLE, part: PARTS[0]! }[id] ?? FAILED }),
  'usage.list': () => ({ records: [...USAGE], next: null }),
  'event.list': () => ({ events: EVENTS, firstSeq: 1, lastSeq: EVENTS.length }),
};

const COMMANDS = [
  'status',
  'doctor',
  'foreign',
  'inventory',
  'load',
  'reservation list',
  'leaks',
  'recover',
  'instance list',
  'instance show demo',
  'instance show hung',
  'instance show drifted',
  'image list',
  'image show test',
  'volume list',
  'volume show demo-disk-0',
  'pool list',
  'pool show default',
  'pool show nas',
  'share list',
  'share show files',
  'instance show shared',
  'network list',
  'network show default',
  'usage list',
  'operation list',
  'operation show x',
  'operation show whole',
  'operation show part',
  'events',
];

t.test('people get aligned tables without colour when the output is no terminal', async (t) => {
  const { socketPath } = await fakeAgent(t, HANDLERS);
  for (const command of COMMANDS) {
    const { stdout, stderr } = await berth(command.split(' '), { socketPath });
    matchesGolden(t, command.replaceAll(' ', '-'), stdout);
    t.equal(stderr, '', `${command} says nothing on standard error`);
    t.notOk(stdout.includes('\u001b'), `${command} has no colour`);
  }
});

t.test('scripts get one JSON document with exact values from every reading command', async (t) => {
  const { socketPath } = await fakeAgent(t, HANDLERS);
  for (const command of COMMANDS.filter((one) => one !== 'events' && one !== 'usage list')) {
    const { stdout, stderr } = await berth([...command.split(' '), '--json'], { socketPath, terminal: true });
    const value: unknown = JSON.parse(stdout);
    t.equal(typeof value, 'object', `${command} prints an object`);
    t.equal(stderr, '');
  }
  const { stdout } = await berth(['--json', 'image', 'show', 'test'], { socketPath });
  t.match(JSON.parse(stdout), { image: { sizeBytes: 41_943_040, virtualSizeBytes: 1_610_612_736 } });
});

t.test('states are coloured on a terminal', async (t) => {
  const { socketPath } = await fakeAgent(t, HANDLERS);
  const { stdout } = await berth(['instance', 'list'], { socketPath, terminal: true });
  t.match(stdout, '\u001b[32mrunning\u001b[0m');
  t.match(stdout, '\u001b[31mcrashed\u001b[0m');
  const plain = stripVTControlCharacters(stdout);
  t.equal(plain, (await berth(['instance', 'list'], { socketPath })).stdout, 'colour changes no column');
});

t.test('there is no colour with NO_COLOR or on a dumb terminal', async (t) => {
  const { socketPath } = await fakeAgent(t, HANDLERS);
  for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
    const { stdout } = await berth(['instance', 'list'], { socketPath, terminal: true, env });
    t.notOk(stdout.includes('\u001b'));
  }
});

t.test('an empty list is a header', async (t) => {
  const { socketPath } = await fakeAgent(t, { 'volume.list': () => ({ volumes: [] }) });
  const { code, stdout } = await berth(['volume', 'list'], { socketPath });
  t.equal(code, 0);
  t.match(stdout, /^NAME +STATE +SIZE +POOL +KEY +INSTANCE +AGE +ID\n$/);
});

t.test('doctor fails where a check found a failure, and not for a warning', async (t) => {
  const failing = await fakeAgent(t, HANDLERS);
  t.equal((await berth(['doctor'], failing)).code, 1);
  const warned = await fakeAgent(t, { 'node.doctor': () => ({ findings: FINDINGS.slice(0, 2) }) });
  t.equal((await berth(['doctor', '--json'], warned)).code, 0);
});

t.test('a dry run of recover says that nothing was taken, and nothing new is one line', async (t) => {
  const { socketPath } = await fakeAgent(t, HANDLERS);
  t.match((await berth(['recover', '--dry-run'], { socketPath })).stdout, /^Would be taken from the host:\n/);
  const same = await fakeAgent(t, { 'node.recover': () => ({ dryRun: false, added: [], leftOut: [] }) });
  t.equal((await berth(['recover'], same)).stdout, 'The host has nothing that the database has not\n');
});

t.test('save sends an absolute path, and tells size and digest', async (t) => {
  const { socketPath } = await fakeAgent(t, HANDLERS);
  const { stdout } = await berth(['save', 'copy.sqlite'], { socketPath });
  t.match(stdout, /^Backed up to \/.*copy\.sqlite: 1\.5 MiB, SHA-256 (ab){32}\n$/);
});

t.test('usage is asked for by page, object and time, and JSON has one record a line', async (t) => {
  const asked: object[] = [];
  const { socketPath } = await fakeAgent(t, {
    'usage.list': (params) => {
      asked.push(params);
      return params.after === 0 ? { records: [USAGE[0]!], next: 7 } : { records: [USAGE[1]!], next: null };
    },
  });
  const words = ['usage', 'list', '--instance', 'demo', '--since', '2026-01-01', '--json'];
  const { code, stdout } = await berth(words, { socketPath });
  t.equal(code, 0);
  t.same(
    stdout
      .trimEnd()
      .split('\n')
      .map((each) => JSON.parse(each)),
    USAGE,
  );
  const filter = { object: 'demo', kind: 'instance', since: '2026-01-01T00:00:00.000Z', limit: 500 };
  t.same(asked, [
    { ...filter, after: 0 },
    { ...filter, after: 7 },
  ]);
});

t.test(
  'usage of two things at once, or since what is no time, is refused before anything is asked',
  async (t) => {
    const { socketPath } = await fakeAgent(t, {});
    for (const words of [
      ['--instance', 'a', '--volume', 'b'],
      ['--since', 'yesterday'],
      ['--since', '2026-13-01'],
      ['--until', ''],
    ]) {
      const { code, stderr } = await berth(['usage', 'list', ...words], { socketPath });
      t.equal(code, 2, words.join(' '));
      t.not(stderr, '');
    }
  },
);
