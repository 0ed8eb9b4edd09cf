/**
 * The database of a real node is lost while a real guest runs: the guest does not notice, and is known again.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cannotRun, hostTraces, prepare, qemuPid, RealNode, spec } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const node = new RealNode();
const stateFolder = join(node.folder, 'state');

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
  await node.run('volume.create', { name: 'data', sizeGib: 1 });
  await node.run('volume.create', { name: 'spare', sizeGib: 1 });
  await node.run('instance.create', {
    spec: spec('lost', { disks: [{ image: 'test' }, { volume: 'data' }] }),
  });
});
t.teardown(() => (skip ? undefined : node.remove()));

async function stateOf() {
  const { instances } = await node.call('instance.list', {});
  return {
    node: (await node.call('node.status', {})).nodeId,
    instances: instances.map(({ generation: _generation, guest: _guest, power, ...rest }) => ({
      ...rest,
      power: power.state,
    })),
    volumes: (await node.call('volume.list', {})).volumes,
    images: (await node.call('image.list', {})).images.map(
      ({ createdAt: _created, verifiedAt: _verified, ...image }) => image,
    ),
    networks: (await node.call('network.list', {})).networks.map(({ createdAt: _at, ...network }) => network),
    used: Object.values((await node.call('inventory.get', {})).resources).map(({ used }) => used),
  };
}

function databaseFiles(): string[] {
  return readdirSync(stateFolder).filter((name) => name.startsWith('berth.sqlite'));
}

t.test(
  'a deleted database comes back with the guest, which runs on',
  { skip, timeout: TEST_MS },
  async (t) => {
    await node.untilAddress('lost');
    const before = await stateOf();
    const pid = qemuPid('berth-lost');
    await node.end('SIGKILL');
    for (const name of databaseFiles()) rmSync(join(stateFolder, name));
    rmSync(join(stateFolder, 'node.json'));
    await node.start();
    const after = await stateOf();
    t.same({ ...after, node: before.node }, before);
    t.not(after.node, before.node, 'nothing is left that knows its id');
    t.equal(qemuPid('berth-lost'), pid, 'the same process');
    t.equal(await node.untilAddress('lost'), node.firstAddress);
    t.match(node.log(), /THE STATE WAS REBUILT FROM THE HOST/);
    t.match((await node.berth('status')).stdout, /Database: +ok/);
  },
);

t.test('a truncated database is set aside, and the guest runs on', { skip, timeout: TEST_MS }, async (t) => {
  const before = await stateOf();
  const pid = qemuPid('berth-lost');
  await node.end('SIGTERM');
  const path = join(stateFolder, 'berth.sqlite');
  truncateSync(path, statSync(path).size - 4096);
  await node.start();
  t.same(await stateOf(), before);
  t.equal(qemuPid('berth-lost'), pid, 'the same process');
  t.equal(databaseFiles().filter((name) => /damaged-[^a-z]*Z$/.test(name)).length, 1);
});

t.test(
  'a backup is made while the node works, and can be looked at',
  { skip, timeout: TEST_MS },
  async (t) => {
    const path = join(node.folder, 'backup.sqlite');
    const told = await node.call('node.backup', { path });
    const bytes = readFileSync(path);
    t.match(told, { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
    t.match(await node.berth('save', path), { code: 1, stderr: /something is there already/ });
    const { added } = await node.call('node.recover', { dryRun: true });
    t.same(added, [], 'what others have on this host is not ours');
    t.match(await node.berth('recover', '--dry-run'), { code: 0, stdout: /nothing/ });
  },
);

t.test('what came back can be stopped, started and deleted', { skip, timeout: TEST_MS }, async (t) => {
  t.match(await node.berth('instance', 'stop', 'lost'), { code: 0 });
  t.match(await node.berth('instance', 'start', 'lost'), { code: 0 });
  t.equal(await node.untilAddress('lost'), node.firstAddress);
  const { instance } = await node.call('instance.show', { id: 'lost' });
  t.match(await node.berth('instance', 'delete', 'lost', '--yes'), { code: 0 });
  for (const name of [instance.id, instance.nics[0]?.tapName as string]) t.same(hostTraces(name), [], name);
  const { volumes } = await node.call('volume.list', {});
  t.same(
    volumes.map(({ name, instanceId }) => [name, instanceId]),
    [
      ['data', null],
      ['spare', null],
    ],
  );
  t.ok(existsSync(join(stateFolder, 'pool/volumes', `${volumes[0]?.id}.qcow2`)));
});
