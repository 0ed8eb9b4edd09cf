import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import { ended } from './support/fixtures.ts';
import { berth, KEY } from './support/run.ts';

const ROOT = join(import.meta.dirname, '../..');

const HANDLERS: Handlers = {
  'instance.create': () => ({ operation: ended('succeeded') }),
  'instance.takeover': () => ({ operation: ended('succeeded') }),
  'network.create': () => ({ operation: ended('succeeded') }),
};

t.test('the example files are taken as they are', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const options = { socketPath, cwd: ROOT };
  const created = await berth('instance create -f examples/instance.json --wait'.split(' '), options);
  t.match(created, { code: 0, stdout: /^Created instance demo/ });
  t.strictSame(calls[0]?.params, {
    spec: {
      name: 'demo',
      vcpus: 1,
      memoryMib: 256,
      disks: [{ image: 'test', sizeGib: 1 }],
      nics: [{ network: 'default' }],
    },
    key: KEY,
  });
  const network = await berth('network create -f examples/network.json'.split(' '), options);
  t.match(network, { code: 0, stdout: /^Created network default/ });
});

t.test('a spec may come from standard input and take another name', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const stdin = JSON.stringify({ name: 'a', vcpus: 1, memoryMib: 64, disks: [{ image: 'test' }] });
  const ran = await berth(['instance', 'create', '-f', '-', '--name', 'b'], { socketPath, stdin });
  t.match(ran, { code: 0, stdout: /^Created instance b/ });
  t.match(calls[0]?.params, { spec: { name: 'b' } });
  const net = { socketPath, stdin: '{"name":"x","cidr":"10.1.0.0/24"}' };
  t.match(await berth(['network', 'create', 'y', '-f', '-'], net), { code: 0, stdout: /^Created network y/ });
});

t.test('an instance is made with a watchdog and policies of its own', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const argv =
    'instance create --name web --image test --watchdog reset --on-crash report --restart-limit 3 ' +
    '--on-boot always --on-drift restore';
  t.match(await berth(argv.split(' '), { socketPath }), { code: 0, stderr: '' });
  t.match(calls[0]?.params['spec'], {
    watchdog: 'reset',
    policies: { onCrash: { action: 'report', limit: 3 }, onBoot: 'always', onDrift: 'restore' },
  });
  const bad = await berth('instance create --name web --image test --restart-limit 0'.split(' '), {
    socketPath,
  });
  t.match(bad, { code: 2, stderr: /restarts within an hour/ });
  t.equal(calls.length, 1, 'which is asked of no agent');
});

t.test('an instance is made with its shares', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const words = 'instance create --name web --image test'.split(' ');
  const made = async (...shares: string[]) =>
    berth([...words, ...shares.flatMap((share) => ['--share', share])], { socketPath });
  t.match(await made('files', 'files:data', 'conf:etc:ro', 'conf::ro', 'more:m:rw'), { code: 0, stderr: '' });
  t.match(calls[0]?.params['spec'], {
    shares: [
      { share: 'files' },
      { share: 'files', tag: 'data' },
      { share: 'conf', tag: 'etc', access: 'read-only' },
      { share: 'conf', access: 'read-only' },
      { share: 'more', tag: 'm', access: 'read-write' },
    ],
  });
  for (const bad of ['', ':', ':data', 'a:b:c', 'a:b:ro:x', 'a:b:toString', 'a:b:'])
    t.match(await made(bad), { code: 2, stderr: /NAME:TAG/ }, JSON.stringify(bad));
  t.match(await made('../etc:data'), { code: 2, stderr: /shares/ });
  t.match(await made('a:two words'), { code: 2, stderr: /tag/ });
  t.equal(calls.length, 1, 'which is asked of no agent');
});

t.test('an instance is made from options, with the files that they name', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'gcli-'));
  t.teardown(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'key.pub'), '# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB too\r\n');
  await writeFile(join(folder, 'init'), '#!/bin/sh\necho hello\n');
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const argv =
    'instance create --name web --vcpus 2 --memory-mib 512 --image test --size-gib 4 --network default ' +
    '--network lab --ssh-key key.pub --user-data init --firmware uefi';
  t.match(await berth(argv.split(' '), { socketPath, cwd: folder }), { code: 0, stderr: '' });
  t.strictSame(calls[0]?.params['spec'], {
    name: 'web',
    vcpus: 2,
    memoryMib: 512,
    firmware: 'uefi',
    disks: [{ image: 'test', sizeGib: 4 }],
    nics: [{ network: 'default' }, { network: 'lab' }],
    sshAuthorizedKeys: ['ssh-ed25519 AAAA me', 'ssh-rsa BBBB too'],
    userData: '#!/bin/sh\necho hello\n',
  });
});

t.test('vendor-data, a ConfigDrive and packed user-data are asked for by options', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'gcli-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const packed = gzipSync('#!/bin/sh\n');
  await writeFile(join(folder, 'init.gz'), packed);
  await writeFile(join(folder, 'vendor'), '#cloud-config\na: 1\n');
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const argv =
    'instance create --name web --image test --user-data init.gz --vendor-data vendor --seed configdrive';
  t.match(await berth(argv.split(' '), { socketPath, cwd: folder }), { code: 0, stderr: '' });
  t.match(calls[0]?.params['spec'], {
    seed: 'configdrive',
    userData: packed.toString('base64'),
    userDataEncoding: 'base64',
    vendorData: '#cloud-config\na: 1\n',
  });
  await writeFile(join(folder, 'bytes'), Uint8Array.of(0xff, 0xfe));
  const bytes = 'instance create --name web --image test --user-data bytes'.split(' ');
  const refused = await berth(bytes, { socketPath, cwd: folder });
  t.match(refused, { code: 2, stderr: /Cannot read the user data from bytes/ });
});

t.test('a private key stays where it is', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'gcli-'));
  t.teardown(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'key'), '-----BEGIN OPENSSH PRIVATE KEY-----\n');
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const argv = 'instance create --name web --image test --ssh-key key'.split(' ');
  const ran = await berth(argv, { socketPath, cwd: folder });
  t.match(ran, { code: 2, stderr: /holds a private key.*\n {2}hint: Give the public one/ });
  t.equal(calls.length, 0);
});

const WRONG: [name: string, text: string | Uint8Array, said: RegExp][] = [
  ['not JSON', '{"name": }', /Cannot use the instance spec in spec\.json: not JSON: /],
  ['not an object', '[]', /Invalid spec in spec\.json: must be object/],
  [
    'a misspelt key',
    '{"name":"a","vcpus":1,"memoryMib":64,"disks":[{"sizeGb":1}]}',
    /at disks\.0\.sizeGb: .*did you mean sizeGib\?/,
  ],
  ['a missing key', '{"name":"a","vcpus":1,"disks":[{}]}', /memoryMib is missing/],
  [
    'a name with a path',
    '{"name":"../a","vcpus":1,"memoryMib":64,"disks":[{}]}',
    /at name: .*1 to 40 of a-z/,
  ],
  ['a wrong type', '{"name":"a","vcpus":"two","memoryMib":64,"disks":[{}]}', /at vcpus: .*got "two"/],
  ['too much', ' '.repeat(1024 * 1024 + 1), /larger than 1048576 bytes/],
  ['not text', Uint8Array.of(0xff, 0xfe), /Cannot read the instance spec from spec\.json/],
];

t.test('a wrong spec is refused with its place, before anything is asked of the agent', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'gcli-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  for (const [name, text, said] of WRONG) {
    await writeFile(join(folder, 'spec.json'), text);
    const ran = await berth(['instance', 'create', '-f', 'spec.json'], { socketPath, cwd: folder });
    t.match(ran, { code: 2, stdout: '', stderr: said }, name);
  }
  const none = await berth(['instance', 'create', '-f', 'none.json'], { socketPath, cwd: folder });
  t.match(none, { code: 2, stderr: /Cannot read the instance spec from none\.json: ENOENT/ });
  t.equal(calls.length, 0);
});

t.test('options that contradict a file, or are not enough, are refused', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  for (const [argv, said] of [
    ['instance create -f examples/instance.json --vcpus 2', /--vcpus and --file exclude each other/],
    ['instance create --name a', /--image is missing/],
    ['instance create', /--name is missing/],
    ['instance create --name A_B --image test', /Invalid spec in the options at name/],
    ['network create -f examples/network.json --no-nat', /--no-nat and --file exclude each other/],
    ['network create lab --cidr 10.0.0.0/8', /Invalid spec in the options at cidr/],
  ] as const) {
    t.match(await berth(argv.split(' '), { socketPath, cwd: ROOT }), { code: 2, stderr: said }, argv);
  }
  t.equal(calls.length, 0);
});

t.test('an instance is taken over by what a file says, and by no file that says nothing', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const id = '0b5ce0c2-6f8f-4c57-9c8e-5a7d8f0f4a11';
  const said = {
    id,
    spec: { name: 'web', vcpus: 1, memoryMib: 64, disks: [{ volume: id }] },
    from: { node: id, fence: 2 },
    volumes: [{ id, name: 'web-disk0', pool: 'common', sizeGib: 1 }],
  };
  const argv = ['instance', 'takeover', '-f', '-'];
  t.match(await berth(argv, { socketPath, stdin: JSON.stringify(said) }), {
    code: 0,
    stdout: /^Took over instance web/,
  });
  t.strictSame(calls[0]?.params, { ...said, key: KEY });
  for (const bad of ['null', '[]', '1', '{}', '{"spec":null}', '{"spec":{"name":"web"}}'])
    t.match(await berth(argv, { socketPath, stdin: bad }), { code: 2, stderr: /takeover|spec/ }, bad);
  t.match(await berth(['instance', 'takeover'], { socketPath }), { code: 2, stderr: /--file is missing/ });
  t.equal(calls.length, 1, 'which are asked of no agent');
});
