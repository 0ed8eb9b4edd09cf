import t from 'tap';
import type { Backup } from '../../src/model/backup.ts';
import { METHOD_NAMES, METHODS } from '../../src/model/methods.ts';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import { ended, idOf, instance, operation } from './support/fixtures.ts';
import { berth, KEY } from './support/run.ts';

/** An agent that takes anything and ends it after `looks` looks. */
function working(looks: number, last = ended('succeeded')): Handlers {
  let left = looks;
  const begin = () => ({ operation: operation({ state: 'pending' }) });
  const operations = METHOD_NAMES.filter((name) => METHODS[name].kind === 'operation');
  return {
    ...Object.fromEntries(operations.map((name) => [name, begin])),
    'operation.cancel': begin,
    'operation.get': () => ({ operation: left-- > 0 ? operation() : last }),
  };
}

/** What is said of an image whose name ends with nothing that is known. */
const AS_IT_IS = { format: 'qcow2', compression: 'none', disk: 0, pinned: false, mirrors: [] };

const CHANGES: [argv: string, method: string, params: Record<string, unknown>, said: RegExp][] = [
  ['instance start demo', 'instance.start', { id: 'demo' }, /^Started instance demo in 1\.5 s\.\n$/],
  [
    'instance stop demo',
    'instance.stop',
    { id: 'demo', mode: 'graceful', timeoutSeconds: 60 },
    /^Stopped instance demo/,
  ],
  [
    'instance stop demo --mode graceful-then-forced --timeout-seconds 5',
    'instance.stop',
    { id: 'demo', mode: 'graceful-then-forced', timeoutSeconds: 5 },
    /^Stopped/,
  ],
  [
    'instance reboot demo --mode forced',
    'instance.reboot',
    { id: 'demo', mode: 'forced', timeoutSeconds: 60 },
    /^Rebooted/,
  ],
  ['instance delete demo --yes', 'instance.delete', { id: 'demo' }, /^Deleted instance demo/],
  [
    'volume attach data demo --bus scsi --cache writeback --iothread',
    'volume.attach',
    { id: 'data', instance: 'demo', device: { bus: 'scsi', cache: 'writeback', iothread: true } },
    /^Attached volume data to demo/,
  ],
  ['volume attach data demo', 'volume.attach', { id: 'data', instance: 'demo' }, /^Attached/],
  ['volume detach data', 'volume.detach', { id: 'data', timeoutSeconds: 30 }, /^Detached volume data/],
  [
    'volume flatten data --speed-mibps 50',
    'volume.flatten',
    { id: 'data', speedMibps: 50 },
    /^Volume data stands on no image/,
  ],
  ['volume grow data --size-gib 9', 'volume.grow', { id: 'data', sizeGib: 9 }, /^Volume data has 9 GiB/],
  [
    'volume configure data --rename rows --protect --limit iops=500:2000:10 --limit read-bytes=100M',
    'volume.configure',
    {
      id: 'data',
      name: 'rows',
      protected: true,
      qos: {
        iops: { perSecond: 500, burst: 2000, burstSeconds: 10 },
        readBytes: { perSecond: 100 * 1024 ** 2 },
      },
    },
    /^Configured volume rows/,
  ],
  [
    'volume configure data --unprotect --no-limits',
    'volume.configure',
    { id: 'data', protected: false, qos: null },
    /^Configured volume data/,
  ],
  [
    'image import test images/t.img --format raw',
    'image.import',
    { ...AS_IT_IS, name: 'test', source: '/srv/images/t.img', format: 'raw' },
    /^Imported image test/,
  ],
  [
    `image import test https://host/t.img --sha256 ${'AB'.repeat(32)}`,
    'image.import',
    { ...AS_IT_IS, name: 'test', source: 'https://host/t.img', sha256: 'ab'.repeat(32) },
    /^Imported image test/,
  ],
  [
    'image import test disk.vmdk.xz --mirror https://host/disk.vmdk.xz --signature disk.sig --pin',
    'image.import',
    {
      ...AS_IT_IS,
      name: 'test',
      source: '/srv/disk.vmdk.xz',
      format: 'vmdk',
      compression: 'xz',
      mirrors: ['https://host/disk.vmdk.xz'],
      signature: '/srv/disk.sig',
      pinned: true,
    },
    /^Imported image test/,
  ],
  [
    'image import test https://host/web.ova?format=raw.gz --disk 1',
    'image.import',
    { ...AS_IT_IS, name: 'test', source: 'https://host/web.ova?format=raw.gz', format: 'ova', disk: 1 },
    /^Imported image test/,
  ],
  ['image verify test', 'image.verify', { id: 'test' }, /^Image test is as it was made, looked at in/],
  ['image pin test', 'image.pin', { id: 'test', pinned: true }, /^Pinned image test/],
  ['image unpin test', 'image.pin', { id: 'test', pinned: false }, /^Unpinned image test/],
  [
    'volume export data out/data.vmdk --format vmdk',
    'volume.export',
    { id: 'data', path: '/srv/out/data.vmdk', format: 'vmdk' },
    /^Exported volume data to \/srv\/out\/data.vmdk/,
  ],
  ['image delete test', 'image.delete', { id: 'test' }, /^Deleted image test/],
  [
    'volume create data --size-gib 10',
    'volume.create',
    { name: 'data', sizeGib: 10 },
    /^Created volume data/,
  ],
  ['volume delete data', 'volume.delete', { id: 'data' }, /^Deleted volume data/],
  ['share create files', 'share.create', { name: 'files' }, /^Created share files/],
  [
    'share create files --quota-gib 20 --protect',
    'share.create',
    { name: 'files', quotaGib: 20, protected: true },
    /^Created share files/,
  ],
  [
    'share attach files demo',
    'share.attach',
    { id: 'files', instance: 'demo', access: 'read-write' },
    /^Attached share files to demo/,
  ],
  [
    'share attach files demo --tag data --read-only',
    'share.attach',
    { id: 'files', instance: 'demo', access: 'read-only', tag: 'data' },
    /^Attached/,
  ],
  [
    'share detach files demo',
    'share.detach',
    { id: 'files', instance: 'demo', timeoutSeconds: 30 },
    /^Detached share files from demo/,
  ],
  [
    'share configure files --rename papers --unprotect --no-quota',
    'share.configure',
    { id: 'files', name: 'papers', protected: false, quotaGib: null },
    /^Configured share papers/,
  ],
  ['share delete files', 'share.delete', { id: 'files' }, /^Deleted share files/],
  [
    'network create lab --cidr 10.81.0.0/24 --no-nat --dns 10.0.0.53 --dns 10.0.0.54',
    'network.create',
    {
      spec: {
        name: 'lab',
        cidr: '10.81.0.0/24',
        nat: false,
        dhcp: true,
        dnsServers: ['10.0.0.53', '10.0.0.54'],
      },
    },
    /^Created network lab/,
  ],
  [
    'backup create demo --store far',
    'backup.create',
    { id: 'demo', store: 'far', quiesce: 'auto' },
    /^Backed up instance demo/,
  ],
  ['network delete lab', 'network.delete', { id: 'lab' }, /^Deleted network lab/],
];

t.test('each change is asked for with its parameters and a key, and waited for', async (t) => {
  for (const [argv, method, params, said] of CHANGES) {
    const { socketPath, calls } = await fakeAgent(t, working(3));
    const { code, stdout, stderr } = await berth(argv.split(' '), { socketPath, cwd: '/srv' });
    t.strictSame(calls[0], { method, params: { ...params, key: KEY } }, argv);
    t.equal(calls.filter((call) => call.method === 'operation.get').length, 4, 'looks until it has ended');
    t.match({ code, stdout, stderr }, { code: 0, stdout: said, stderr: '' });
  }
});

t.test('--wait says what is so anyway', async (t) => {
  const { socketPath } = await fakeAgent(t, working(1));
  const { code, stdout, listening } = await berth(['instance', 'start', 'demo', '--wait'], { socketPath });
  t.match({ code, stdout, listening }, { code: 0, stdout: /^Started/, listening: 0 });
});

t.test('--no-wait prints the id of the operation and looks no further', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, working(1));
  const { code, stdout } = await berth(['instance', 'start', 'demo', '--no-wait'], { socketPath });
  t.strictSame({ code, stdout, calls: calls.length }, { code: 0, stdout: `${idOf(7)}\n`, calls: 1 });
});

t.test('--key is sent as it is given', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, working(0));
  await berth(['instance', 'start', 'demo', '--key', 'job-17'], { socketPath });
  t.match(calls[0], { params: { key: 'job-17' } });
});

t.test('a failed operation fails the command, with its reason and what to do', async (t) => {
  const error = { code: 'CAPACITY_EXCEEDED', message: 'no room for 256 MiB', hint: 'Ask for less.' } as const;
  const { socketPath } = await fakeAgent(t, working(1, ended('failed', { error })));
  const { code, stdout, stderr } = await berth(['instance', 'start', 'demo'], { socketPath });
  t.equal(code, 1);
  t.equal(stdout, '');
  t.equal(
    stderr,
    'berth: Cannot start instance demo: no room for 256 MiB\n' +
      `  hint: Ask for less. \`berth operation show ${idOf(7)}\` shows how far it came.\n`,
  );
});

t.test('a failed operation is the one document that a script gets', async (t) => {
  const { socketPath } = await fakeAgent(t, working(1, ended('cancelled')));
  const { code, stdout } = await berth(['instance', 'start', 'demo', '--json'], { socketPath });
  t.equal(code, 1);
  t.match(JSON.parse(stdout), { operation: { state: 'cancelled' } });
});

t.test('waiting ends at the timeout and leaves the operation going', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, working(1_000_000));
  const ran = await berth(['instance', 'start', 'demo', '--timeout', '5'], { socketPath });
  t.match(ran, {
    code: 1,
    stdout: '',
    stderr: /has not ended within 5 s and goes on\n {2}hint: `berth operation wait/,
  });
  t.equal(ran.spentMs, 5000);
  t.notOk(calls.some(({ method }) => method === 'operation.cancel'));
});

t.test('Ctrl-C while waiting leaves the operation going and says how to look at it', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, working(1_000_000));
  const ran = await berth(['instance', 'start', 'demo', '--json'], {
    socketPath,
    onSleep: ({ interrupt }) => interrupt(),
  });
  t.equal(ran.code, 130);
  t.match(ran.stderr, `\`berth operation wait ${idOf(7)}\` waits again`);
  t.match(JSON.parse(ran.stdout), { operation: { id: idOf(7), state: 'running' } });
  t.notOk(calls.some(({ method }) => method === 'operation.cancel'));
});

t.test('a live line shows the step on a terminal, and is gone in the end', async (t) => {
  const { socketPath } = await fakeAgent(t, working(1));
  const { stdout, stderr } = await berth(['instance', 'start', 'demo'], { socketPath, terminal: true });
  t.match(stderr, 'instance.create demo: define-domain, 60 %');
  t.ok(stderr.endsWith('\r\u001b[K'));
  t.match(stdout, /^Started instance demo/);
});

t.test('a restart of the agent while waiting is no failure', async (t) => {
  const first = operation({ state: 'pending' });
  let looks = 0;
  const { socketPath } = await fakeAgent(t, {
    'instance.start': () => ({ operation: first }),
    'operation.get': () => (++looks < 4 ? { wire: 'break' } : { operation: ended('succeeded') }),
  });
  t.match(await berth(['instance', 'start', 'demo'], { socketPath }), { code: 0, stdout: /^Started/ });
});

t.test('an agent that stays away while waiting is not reachable', async (t) => {
  const agent = await fakeAgent(t, working(1_000_000));
  const ran = await berth(['instance', 'start', 'demo'], {
    socketPath: agent.socketPath,
    onSleep: () => void agent.close(),
  });
  t.match(ran, { code: 3, stdout: '', stderr: /^berth: Cannot reach the agent at/ });
  t.ok(ran.spentMs >= 30_000, 'after patience enough for an upgrade');
});

t.test('a connection that breaks before the answer is used once more, with the same key', async (t) => {
  let tries = 0;
  const { socketPath, calls } = await fakeAgent(t, {
    'instance.start': () => (++tries === 1 ? { wire: 'break' } : { operation: ended('succeeded') }),
  });
  t.equal((await berth(['instance', 'start', 'demo'], { socketPath })).code, 0);
  t.strictSame(calls[0], calls[1]);
});

t.test('a connection that breaks twice leaves a command that can be repeated safely', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, { 'instance.start': () => ({ wire: 'break' }) });
  const { code, stderr } = await berth(['instance', 'start', 'demo'], { socketPath });
  t.equal(code, 3);
  t.match(stderr, `--key ${KEY} is safe`);
  t.equal(calls.length, 2);
});

t.test('a person is asked before data is lost', async (t) => {
  for (const [argv, reply, asked, done] of [
    ['instance delete demo', 'y', true, true],
    ['instance delete demo', 'n', true, false],
    ['instance delete demo', null, true, false],
    ['volume delete data', 'YES', true, true],
    ['instance delete demo --yes', null, false, true],
    ['network delete lab', null, false, true],
  ] as const) {
    const { socketPath, calls } = await fakeAgent(t, working(0));
    const ran = await berth(argv.split(' '), { socketPath, terminal: true, reply });
    t.equal(ran.questions.length, asked ? 1 : 0, `${argv} asks as it should`);
    t.equal(ran.code, done ? 0 : 1);
    t.equal(calls.length > 0, done, `${argv}, answered ${reply}`);
  }
});

t.test('a script is not asked', async (t) => {
  for (const terminal of [false, 'output'] as const) {
    const { socketPath } = await fakeAgent(t, working(0));
    const ran = await berth(['instance', 'delete', 'demo'], { socketPath, terminal });
    t.match(ran, { code: 0, questions: [] });
  }
});

t.test('operation wait reports how the operation ended', async (t) => {
  const good = await fakeAgent(t, working(2));
  t.match(await berth(['operation', 'wait', idOf(7)], good), { code: 0, stdout: /succeeded in 1\.5 s/ });
  const bad = await fakeAgent(
    t,
    working(2, ended('failed', { error: { code: 'INTERNAL', message: 'broke' } })),
  );
  t.match(await berth(['operation', 'wait', idOf(7)], bad), { code: 1, stderr: /broke/ });
});

t.test(
  'operation cancel is done when the operation is cancelled, and failed when it came too late',
  async (t) => {
    const inTime = await fakeAgent(t, working(1, ended('cancelled')));
    t.match(await berth(['operation', 'cancel', idOf(7)], inTime), {
      code: 0,
      stdout: /^Cancelled operation/,
    });
    const late = await fakeAgent(t, working(1));
    t.match(await berth(['operation', 'cancel', idOf(7)], late), {
      code: 1,
      stderr: /had already succeeded/,
    });
  },
);

t.test('operation list passes its filters on', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, { 'operation.list': () => ({ operations: [] }) });
  await berth('operation list --state failed --kind volume --limit 5'.split(' '), { socketPath });
  t.strictSame(calls[0]?.params, { state: 'failed', targetKind: 'volume', limit: 5 });
});

const BACKUP: Backup = {
  store: 'far',
  id: idOf(7),
  instanceId: idOf(1),
  createdAt: '2026-03-01T11:00:00.000Z',
  parentId: null,
  full: { code: 'asked', message: 'A full backup was asked for' },
  consistent: 'crash',
  spec: { ...instance().spec, name: 'demo' },
  nics: [
    { network: 'lan', macAddress: '52:54:00:00:00:01', ipAddress: '10.0.0.2' },
    { network: 'other', macAddress: '52:54:00:00:00:02', ipAddress: '10.1.0.2' },
  ],
  shares: [],
  nvram: null,
  volumes: [
    { id: idOf(2), device: { bus: 'scsi' }, virtualSizeBytes: 5 * 1024 ** 3, dataBytes: 1024 ** 3 },
    { id: idOf(3), virtualSizeBytes: 2.5 * 1024 ** 3, dataBytes: 1024 ** 2 },
  ],
};
const ITS = { id: BACKUP.id, instanceId: BACKUP.instanceId, store: 'far' };

t.test('a backup is named by its id alone, and its store is asked whose it is', async (t) => {
  const changes: [argv: string, method: string, params: Record<string, unknown>, said: RegExp][] = [
    [`backup verify ${BACKUP.id}`, 'backup.verify', ITS, /is whole/],
    [
      `backup restore ${BACKUP.id} again`,
      'backup.restore',
      { ...ITS, volumeId: idOf(2), name: 'again', sizeGib: 5 },
      /^Restored volume again/,
    ],
    [
      `backup restore ${BACKUP.id} again --disk 1`,
      'backup.restore',
      { ...ITS, volumeId: idOf(3), name: 'again', sizeGib: 3 },
      /^Restored/,
    ],
    [`backup verify ${BACKUP.id} --restore`, 'backup.verify', { ...ITS, restore: true }, /is whole/],
    [
      `backup restore ${BACKUP.id} --instance web2 --network lan=default`,
      'backup.recreate',
      {
        ...ITS,
        volumes: [idOf(2), idOf(3)],
        spec: {
          ...BACKUP.spec,
          name: 'web2',
          disks: [{ sizeGib: 5, device: { bus: 'scsi' } }, { sizeGib: 3 }],
          nics: [{ network: 'default' }, { network: 'other' }],
        },
      },
      /^Restored instance web2/,
    ],
    [
      `backup restore ${BACKUP.id} --instance demo --keep-identity --network lan=default`,
      'backup.recreate',
      {
        ...ITS,
        as: BACKUP.instanceId,
        volumes: [idOf(2), idOf(3)],
        spec: {
          ...BACKUP.spec,
          disks: [{ sizeGib: 5, device: { bus: 'scsi' } }, { sizeGib: 3 }],
          nics: [
            { network: 'default', macAddress: '52:54:00:00:00:01', ipAddress: '10.0.0.2' },
            { network: 'other', macAddress: '52:54:00:00:00:02', ipAddress: '10.1.0.2' },
          ],
        },
      },
      /^Restored instance demo/,
    ],
    [`backup delete ${BACKUP.id} --yes`, 'backup.delete', ITS, /^Deleted backup/],
    [
      'backup prune demo --last 3 --yes',
      'backup.prune',
      { instanceId: BACKUP.instanceId, store: 'far', last: 3, daily: 14, weekly: 8 },
      /^Pruned/,
    ],
  ];
  for (const [argv, method, params, said] of changes) {
    const handlers = { ...working(1), 'backup.list': () => ({ backups: [BACKUP] }) };
    const { socketPath, calls } = await fakeAgent(t, handlers);
    t.match(await berth(argv.split(' '), { socketPath }), { code: 0, stdout: said, stderr: '' }, argv);
    t.strictSame(calls[1], { method, params: { ...params, key: KEY } });
  }
});

t.test('a backup is made of what has changed, or in full, and at a pace', async (t) => {
  const given: [argv: string, params: Record<string, unknown>][] = [
    ['backup create demo', { id: 'demo', quiesce: 'auto' }],
    [
      'backup create demo --full --bandwidth 50 --quiesce required',
      { id: 'demo', full: true, quiesce: 'required', bandwidthMibPerSecond: 50 },
    ],
  ];
  for (const [argv, params] of given) {
    const { socketPath, calls } = await fakeAgent(t, working(1));
    t.match(await berth(argv.split(' '), { socketPath }), { code: 0, stdout: /^Backed up/ });
    t.strictSame(calls[0], { method: 'backup.create', params: { ...params, key: KEY } });
  }
  const { socketPath } = await fakeAgent(t, {});
  t.match(await berth('backup create demo --bandwidth fast'.split(' '), { socketPath }), { code: 2 });
});

t.test('a backup that is not there, and a disk that it does not have, are told', async (t) => {
  const { socketPath } = await fakeAgent(t, {
    'backup.list': ({ id }) => ({ backups: id === undefined || id === BACKUP.id ? [BACKUP] : [] }),
  });
  const run = (argv: string) => berth(argv.split(' '), { socketPath });
  t.match(await run(`backup verify ${idOf(9)}`), { code: 1, stderr: /There is no backup/ });
  t.match(await run(`backup restore ${BACKUP.id} again --disk 2`), { code: 2, stderr: /has 2 disks/ });
  for (const [argv, said] of [
    ['', /name of a volume, or --instance/],
    ['again --instance web', /name of a volume, or --instance/],
    ['again --network a=b', /--network is for --instance/],
    ['--instance web --disk 1', /--disk is for a single volume/],
    ['--instance web --network lan', /is not OLD=NEW/],
    ['--instance web --network lan=a --network lan=b', /names lan twice/],
    ['--instance web --network wan=a', /no NIC in network wan.*\n.*lan, other/],
  ] as const)
    t.match(await run(`backup restore ${BACKUP.id} ${argv}`.trim()), { code: 2, stderr: said }, argv);
  t.match(await run(`backup show ${BACKUP.id}`), { code: 0, stdout: /Disk 1: .*2.5 GiB/ });
  t.match(await run('backup list'), { code: 0, stdout: /demo .*1 GiB +far/ });
});
