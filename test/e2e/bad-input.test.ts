/**
 * Bad input to a real node: each gets a typed error, nothing half-made stays behind, and the node serves on.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cannotRun, freeCidr, IMAGE, prepare, RealNode, spec } from './support/node.ts';

const skip = cannotRun();
/** ms */
const TEST_MS = 120_000;
const node = new RealNode();
let before: string[] = [];

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
  before = await node.traces();
});
t.teardown(() => (skip ? undefined : node.remove()));

/** Announced, not sent: what follows a refusal would only break the pipe, before or after its answer is read. */
const OVERSIZED = { 'content-length': String(2 * 1024 * 1024) };

const CALLS: [what: string, call: () => Promise<unknown>, code: string][] = [
  ['malformed JSON', () => node.post('/v1/instance.create', '{"spec":'), 'INVALID_ARGUMENT'],
  ['an unknown method', () => node.post('/v1/instance.crate', '{}'), 'UNSUPPORTED'],
  ['an unknown field', () => node.post('/v1/instance.list', '{"all":true}'), 'INVALID_ARGUMENT'],
  ['a wrong type', () => create({ vcpus: 'two' }), 'INVALID_ARGUMENT'],
  ['an oversized body', () => node.post('/v1/instance.list', '{}', OVERSIZED), 'INVALID_ARGUMENT'],
  ['a name with ../', () => create({ name: '../x' }), 'INVALID_ARGUMENT'],
  ['a name with shell characters', () => create({ name: '$(reboot)' }), 'INVALID_ARGUMENT'],
  ['more memory than the host has', () => create({ memoryMib: 4_000_000 }), 'CAPACITY_EXCEEDED'],
  ['an image that is not here', () => create({ disks: [{ image: 'none' }] }), 'NOT_FOUND'],
  ['a network that is not here', () => create({ nics: [{ network: 'none' }] }), 'NOT_FOUND'],
];
for (const [what, call, code] of CALLS) {
  t.test(`${what} is refused with ${code}`, { skip, timeout: TEST_MS }, async (t) => {
    await t.rejects(call(), { code, message: /.+/ });
  });
}

const IMAGES: [what: string, params: () => { source: string; sha256?: string }, code: string][] = [
  ['an image that is missing', () => ({ source: '/nowhere/image.qcow2' }), 'NOT_FOUND'],
  ['an image that is truncated', () => ({ source: truncated() }), 'IMAGE_REFUSED'],
  ['an image that is none', () => ({ source: noImage() }), 'IMAGE_REFUSED'],
  ['an image of another checksum', () => ({ source: IMAGE, sha256: '0'.repeat(64) }), 'IMAGE_REFUSED'],
];
for (const [what, params, code] of IMAGES) {
  t.test(`${what} does not get into the pool`, { skip, timeout: TEST_MS }, async (t) => {
    const operation = await node.run('image.import', { name: 'bad', ...params() });
    t.match(operation, { state: 'failed', error: { code } });
    t.same(
      (await node.call('image.list', {})).images.map(({ name }) => name),
      ['test'],
    );
  });
}

t.test(
  'a network whose addresses the host uses for something else is refused',
  { skip, timeout: TEST_MS },
  async (t) => {
    execFileSync('ip', ['link', 'add', 'e2e-dummy', 'type', 'bridge']);
    t.teardown(() => execFileSync('ip', ['link', 'del', 'e2e-dummy']));
    const cidr = freeCidr();
    const address = cidr.replace('.0/24', '.1');
    execFileSync('ip', ['addr', 'add', `${address}/24`, 'dev', 'e2e-dummy']);
    execFileSync('ip', ['link', 'set', 'e2e-dummy', 'up']);
    const clash = { name: 'clash', cidr, nat: true, dhcp: true, dnsServers: [] };
    const operation = await node.run('network.create', { spec: clash });
    t.match(operation, { state: 'failed', error: { code: 'HOST_CONFLICT', message: /e2e-dummy/ } });
    const addresses = execFileSync('ip', ['addr', 'show', 'e2e-dummy'], { encoding: 'utf8' });
    t.match(addresses, address, 'it is left as it was');
  },
);

t.test('after all that nothing is left, and the node serves on', { skip, timeout: TEST_MS }, async (t) => {
  t.same(await node.traces(), before);
  t.equal((await node.run('instance.create', { spec: spec('after') })).state, 'succeeded');
});

function create(change: object): Promise<unknown> {
  return node.post('/v1/instance.create', JSON.stringify({ spec: { ...spec('bad'), ...change } }));
}

function truncated(): string {
  const file = join(node.folder, 'truncated.qcow2');
  copyFileSync(IMAGE, file);
  truncateSync(file, 1_000_000);
  return file;
}

function noImage(): string {
  const file = join(node.folder, 'text.qcow2');
  writeFileSync(file, 'no image at all');
  return file;
}
