import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { AgentError, ERROR_CODES, type ErrorCode } from '../../src/model/errors.ts';
import { fakeAgent, type Misbehaviour } from './support/fake-agent.ts';
import { HEALTH, instance } from './support/fixtures.ts';
import { berth } from './support/run.ts';

t.test('a refusal of the agent is said with its hint, or with the advice of its code', async (t) => {
  for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
    const body = JSON.stringify({ error: new AgentError(code, 'it is so').toBody() });
    const agent = await fakeAgent(t, { 'instance.show': () => ({ wire: 'bytes', status: 409, body }) });
    const { code: exit, stdout, stderr } = await berth(['instance', 'show', 'demo'], agent);
    t.equal(exit, 1, code);
    t.equal(stdout, '');
    t.match(stderr, /^berth: Cannot show instance demo: it is so\n {2}hint: [A-Z].+\.\n$/);
  }
});

t.test("the agent's own sentence is not wrapped in another", async (t) => {
  const error = {
    code: 'NOT_FOUND',
    message: 'Cannot find instance demo',
    hint: 'See `berth instance list`.',
  };
  const body = JSON.stringify({ error });
  const { socketPath } = await fakeAgent(t, {
    'instance.show': () => ({ wire: 'bytes', status: 404, body }),
  });
  const { stderr } = await berth(['instance', 'show', 'demo'], { socketPath });
  t.equal(stderr, 'berth: Cannot find instance demo\n  hint: See `berth instance list`.\n');
  const { stdout } = await berth(['instance', 'show', 'demo', '--json'], { socketPath });
  t.strictSame(JSON.parse(stdout), { error }, 'a script gets the error as the one document');
});

const USAGE: [argv: string, said: RegExp][] = [
  ['instanc list', /unknown command 'instanc'\n {2}hint: Did you mean instance\?/],
  ['instance lst', /unknown command 'lst'\n {2}hint: Did you mean list\? `berth instance --help`/],
  ['instance show', /missing required argument 'name'/],
  ['instance show a b', /too many arguments/],
  ['instance list --jsn', /unknown option '--jsn'\n {2}hint: Did you mean --json\?/],
  ['instance stop demo --mode hard', /Allowed choices are graceful, graceful-then-forced, forced/],
  ['instance start demo --timeout soon', /It is a whole number/],
  ['instance start demo --timeout 99999999999999999999', /It is a whole number/],
  ['volume create data', /--size-gib is missing/],
  ['network create lab', /--cidr is missing/],
  ['image import test ftp://host/image', /neither a file nor a URL that is known/],
  ['call node.status {oops', /the parameters: not JSON/],
  ['completion tcsh', /Allowed choices are bash, zsh, fish/],
];

t.test('a wrong command line is refused before anything is asked of the agent', async (t) => {
  for (const [argv, said] of USAGE) {
    const agent = await fakeAgent(t, {});
    const { code, stdout, stderr } = await berth(argv.split(' '), agent);
    t.match({ code, stdout, stderr }, { code: 2, stdout: '', stderr: said }, argv);
    t.match(stderr, /^berth: Cannot .*\n {2}hint: .+\n$/, 'says what and how');
    t.equal(agent.calls.length, 0);
    const scripted = await berth([...argv.split(' '), '--json'], agent);
    t.match(JSON.parse(scripted.stdout), { error: { code: 'INVALID_ARGUMENT' } }, `${argv} --json`);
  }
});

t.test('following a console and one document exclude each other', async (t) => {
  const ran = await berth('instance console demo --follow --json'.split(' '));
  t.match(ran, { code: 2, stderr: /exclude each other/ });
});

t.test('a missing command is a usage error that shows the help', async (t) => {
  for (const argv of [[], ['instance']]) {
    const { code, stdout, stderr } = await berth(argv);
    t.match({ code, stdout, stderr }, { code: 2, stdout: '', stderr: /Usage: berth/ });
  }
  t.match(JSON.parse((await berth(['instance', '--json'])).stdout), { error: { code: 'INVALID_ARGUMENT' } });
});

t.test('an agent that is not there is not reachable, whatever the reason', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'gcli-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const file = join(folder, 'file');
  await writeFile(file, '');
  for (const [path, reason] of [
    [join(folder, 'none.sock'), /there is no such socket/],
    [file, /no agent listens on it/],
    [join(folder, 'x'.repeat(200)), /Cannot reach the agent at/],
  ] as const) {
    const ran = await berth(['status', '--socket', path]);
    t.match(ran, { code: 3, stdout: '', stderr: reason });
    t.match(ran.stderr, /\n {2}hint: .+\n$/);
    const scripted = await berth(['status', '--json', '--socket', path]);
    t.match(JSON.parse(scripted.stdout), { error: { code: 'UNAVAILABLE' } });
  }
});

t.test('--socket goes before BERTH_SOCKET', async (t) => {
  const agent = await fakeAgent(t, { 'instance.list': () => ({ instances: [] }) });
  const env = { BERTH_SOCKET: '/nowhere' };
  t.equal((await berth(['instance', 'list', '--socket', agent.socketPath], { env })).code, 0);
  t.equal((await berth(['instance', 'list'], { env })).code, 3);
});

t.test('an agent that takes the connection and says nothing is given up', async (t) => {
  const { socketPath } = await fakeAgent(t, { 'instance.list': () => ({ wire: 'silence' }) });
  const limits = { answerTimeoutMs: 50 };
  t.match(await berth(['instance', 'list'], { socketPath, limits }), {
    code: 3,
    stderr: /no answer within 0\.05 s/,
  });
});

const NONSENSE: [name: string, answer: Misbehaviour, code: number, said: RegExp][] = [
  ['no JSON', { wire: 'bytes', status: 200, body: '<html>' }, 1, /its answer is not JSON/],
  ['nothing', { wire: 'bytes', status: 200, body: '' }, 1, /its answer is not JSON/],
  ['a bare number', { wire: 'bytes', status: 200, body: '7' }, 1, /not a JSON object/],
  ['null', { wire: 'bytes', status: 200, body: 'null' }, 1, /not a JSON object/],
  ['half an answer', { wire: 'truncate' }, 3, /broke before it answered/],
  ['an error without words', { wire: 'bytes', status: 500, body: '{}' }, 1, /status 500 without an error/],
  [
    'an unknown code',
    { wire: 'bytes', status: 400, body: '{"error":{"code":"NEW","message":"m"}}' },
    1,
    /Cannot list the instances: m\n/,
  ],
  [
    'another shape',
    { wire: 'bytes', status: 200, body: '{"items":[]}' },
    1,
    /instance\.list is not understood/,
  ],
  [
    'a broken row',
    { wire: 'bytes', status: 200, body: '{"instances":[{"name":"x"}]}' },
    1,
    /not understood at instances\.0/,
  ],
  ['too much', { wire: 'bytes', status: 200, body: `"${'x'.repeat(3000)}"` }, 1, /larger than 2000 bytes/],
];

t.test('an answer that makes no sense is a failure with words, and prints nothing', async (t) => {
  for (const [name, answer, code, said] of NONSENSE) {
    const { socketPath } = await fakeAgent(t, { 'instance.list': () => answer });
    const ran = await berth(['instance', 'list'], { socketPath, limits: { answerBytes: 2000 } });
    t.match(ran, { code, stdout: '', stderr: said }, name);
    t.notMatch(ran.stderr, /defect|at .*\.ts/, 'no stack');
  }
});

const HOSTILE = 'a\u001b[31m\u001b]0;owned\u0007\nb\r\t\u009b2J\u202egnp\u200b\u2028\udb40\udc41\ud800 ';

t.test('nothing that came from outside reaches a terminal unprintable', async (t) => {
  const hostile = instance({
    name: 'demo',
    power: { state: 'crashed', since: HOSTILE, reason: HOSTILE },
    disks: [
      {
        volumeId: instance().id,
        volume: HOSTILE.repeat(40),
        pool: HOSTILE,
        sizeGib: 1,
        deletedWithInstance: true,
      },
    ],
    nics: [{ ...instance().nics[0]!, network: HOSTILE, tapName: HOSTILE }],
    guest: {
      seenAt: HOSTILE,
      addresses: [{ interface: HOSTILE, macAddress: HOSTILE, address: HOSTILE, prefix: 24 }],
    },
  });
  const { socketPath } = await fakeAgent(t, {
    'instance.list': () => ({ instances: [hostile] }),
    'instance.show': () => ({
      instance: hostile,
      health: { state: 'unavailable', since: HOSTILE, reason: HOSTILE },
    }),
    'node.doctor': () => ({ findings: [{ check: HOSTILE, verdict: 'ok', message: HOSTILE, mend: HOSTILE }] }),
    'event.list': () => ({
      events: [{ seq: 1, type: 'node' as never, at: HOSTILE, target: null, data: { state: HOSTILE } }],
      firstSeq: 1,
      lastSeq: 1,
    }),
    'image.show': () => {
      throw new AgentError('NOT_FOUND', HOSTILE, { hint: HOSTILE });
    },
  });
  for (const argv of [
    ['instance', 'list'],
    ['instance', 'show', 'demo'],
    ['doctor'],
    ['image', 'show', HOSTILE],
  ]) {
    const { stdout, stderr } = await berth(argv, { socketPath });
    const printed = (stdout + stderr).replaceAll('\n', '');
    t.notMatch(printed, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u, argv.slice(0, 2).join(' '));
  }
  const { stdout } = await berth(['instance', 'list'], { socketPath });
  t.equal(stdout.split('\n').length, 3, 'a row stays a row');
});

t.test('JSON keeps what came from outside exactly, and is safe on a terminal', async (t) => {
  const reason = `${HOSTILE.replace('\ud800', '')}"\\`;
  const hostile = instance({ power: { state: 'crashed', since: reason, reason } });
  const { socketPath } = await fakeAgent(t, {
    'instance.show': () => ({ instance: hostile, health: HEALTH }),
  });
  const { stdout } = await berth(['instance', 'show', 'demo', '--json'], { socketPath, terminal: true });
  t.notMatch(stdout.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
  t.strictSame(JSON.parse(stdout), { instance: hostile, health: HEALTH });
});

t.test('call sends once, as it is, and prints the result', async (t) => {
  const agent = await fakeAgent(t, { 'instance.show': () => ({ instance: instance(), health: HEALTH }) });
  const { code, stdout } = await berth(['call', 'instance.show', '{"id":"demo"}'], agent);
  t.equal(code, 0);
  t.strictSame(JSON.parse(stdout), { instance: instance(), health: HEALTH });
  const stdin = { socketPath: agent.socketPath, stdin: '{"id":"other"}' };
  t.equal((await berth(['call', 'instance.show', '-'], stdin)).code, 0);
  t.strictSame(agent.calls.at(-1)?.params, { id: 'other' });
  t.match(await berth(['call', '../x?y', '{}'], agent), { code: 1, stderr: /There is no method \.\.\/x\?y/ });
});

t.test('BERTH_DEBUG adds where a failure came from, printable too', async (t) => {
  const { socketPath } = await fakeAgent(t, {
    'image.show': () => {
      throw new AgentError('NOT_FOUND', HOSTILE);
    },
  });
  const { stderr } = await berth(['image', 'show', 'x'], { socketPath, env: { BERTH_DEBUG: '1' } });
  t.match(stderr, /client\.ts:\d+/);
  t.notMatch(stderr.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
});
