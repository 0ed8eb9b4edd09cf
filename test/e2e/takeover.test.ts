/**
 * Two real nodes with a pool in common, each with a libvirtd of its own, and a scheduler: the guest of a node that is
 * killed runs on the other one with its data, and one that was fenced by mistake is left alone.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { PrivateDaemon } from '../drivers/libvirt/private-daemon.ts';
import { type Lab, startLab, TOKEN } from '../scheduler/support/lab.ts';
import { inGuest, untilUp } from './support/in-guest.ts';
import { cannotRun, qemuPid, RealNode, spec, until, IMAGE } from './support/node.ts';
import { isMarked, mark, variablesOf } from './support/variables.ts';

const skip = cannotRun();
const TEST_MS = 600_000;
/** Until a node's lease has lapsed, and until one is heard of again. */
const LINK_MS = 60_000;
const NAME = `e2e-moves-${randomBytes(3).toString('hex')}`;
const DOMAIN = `berth-${NAME}`;
const NVRAM = variablesOf(NAME);
const HEARTBEAT_SECONDS = 2;
const BY = { by: 'a test', reason: 'its processes were killed' };

interface Scene {
  lab: Lab;
  shared: string;
  /** With the machine's own libvirtd. */
  old: RealNode;
  other: RealNode;
  /** The other node's libvirtd. */
  daemon: PrivateDaemon;
  uri: string;
}

const scene = skip === false ? await set() : (null as unknown as Scene);

async function set(): Promise<Scene> {
  const shared = mkdtempSync(join(tmpdir(), 'berth-e2e-common-'));
  const lab = await startLab(t, undefined, { heartbeatSeconds: HEARTBEAT_SECONDS });
  const tokenFile = join(shared, '..', `${NAME}.token`);
  writeFileSync(tokenFile, TOKEN, { mode: 0o600 });
  const daemon = await PrivateDaemon.open(t);
  const config = (uri: string) =>
    [
      `[scheduler]\nurl = "${lab.url.replace('http', 'ws')}"\ntokenFile = "${tokenFile}"`,
      `[hypervisor]\nuri = "${uri}"`,
      `[[pools]]\nname = "common"\npath = "${shared}"\nshared = true\ndiskRatio = 8\nreservedDiskGib = 0`,
      'warningPercent = 100\ncriticalPercent = 100',
    ].join('\n');
  const old = new RealNode({ config: config('qemu:///system') });
  const other = new RealNode({ config: config(daemon.uri), entry: daemon.entry });
  t.teardown(async () => {
    for (const node of [old, other]) await node.remove();
    rmSync(shared, { recursive: true });
    rmSync(tokenFile);
  });
  for (const node of [old, other]) await node.start();
  await old.must('image.import', { name: 'test', source: IMAGE });
  return { lab, shared, old, other, daemon, uri: daemon.uri };
}

/** Files of volumes, by the node whose they are. */
function volumesOf(nodeId: string): string[] {
  const folder = join(scene.shared, 'nodes', nodeId, 'volumes');
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

function copies(nodeId: string): string[] {
  const names = volumesOf(nodeId).filter((name) => name.endsWith('.nvram'));
  return names.map((name) => join(scene.shared, 'nodes', nodeId, 'volumes', name));
}

async function idOf(node: RealNode): Promise<string> {
  return (await node.call('node.status', {})).nodeId;
}

/** What is proven to be this node's; the machine may have other nodes' things. */
async function leaksOf(node: RealNode): Promise<unknown[]> {
  const { leaks } = await node.call('node.leaks', {});
  return leaks.filter(({ proof, name }) => proof !== null || name.startsWith(scene.shared));
}

async function untilNode(nodeId: string, state: string): Promise<void> {
  await until(`node ${nodeId} is ${state}`, LINK_MS, async () => {
    const { node } = (await scene.lab.get(`/v1/nodes/${nodeId}`)).body;
    return node?.state === state && node.connected === (state === 'ready') ? true : null;
  });
}

async function made(more: object = {}): Promise<string> {
  const disks = [
    { image: 'test', pool: 'common' },
    { sizeGib: 1, pool: 'common' },
  ];
  const nodeId = await idOf(scene.old);
  await untilNode(nodeId, 'ready');
  const answer = await scene.lab.post('/v1/instances', {
    spec: spec(NAME, { disks, nics: [], ...more }),
    node: nodeId,
  });
  const { state, error } = await ended(answer);
  if (state !== 'succeeded') throw new Error(`${state}: ${error?.message}`);
  await until('the scheduler has it', LINK_MS, async () => {
    const { instance } = (await scene.lab.get(`/v1/instances/${NAME}`)).body;
    return instance.phase === 'present' && instance.power?.state === 'running' ? true : null;
  });
  return answer.body.instance.id;
}

// biome-ignore lint/suspicious/noExplicitAny: an operation as the scheduler tells it
async function ended({ body }: { body: any }): Promise<any> {
  if (body.operation === undefined) throw new Error(JSON.stringify(body));
  const path = `/v1/operations/${body.operation.id}?wait=30`;
  return until('the operation ends', TEST_MS, async () => {
    const { operation } = (await scene.lab.get(path)).body;
    return operation.endedAt === null ? null : operation;
  });
}

/** Of the first MiBs of its second disk. */
async function digestOf(domain: string, uri?: string): Promise<string> {
  const { output } = await inGuest(domain, 'dd if=/dev/vdb bs=1M count=4 2>/dev/null | sha256sum', uri);
  return output.trim();
}

function restart(key: string) {
  return scene.lab.post(`/v1/instances/${NAME}/restart-elsewhere`, BY, { 'idempotency-key': key });
}

t.test(
  'a guest of a node that is killed goes on elsewhere with its data, and what its firmware kept',
  { skip, timeout: TEST_MS },
  async (t) => {
    const { lab, old, other, daemon, uri } = scene;
    const [oldId, otherId] = [await idOf(old), await idOf(other)];
    const id = await made({ firmware: 'uefi' });
    await untilUp(DOMAIN);
    const word = randomBytes(16).toString('hex');
    t.equal((await inGuest(DOMAIN, `echo ${word} | dd of=/dev/vdb conv=fsync`)).code, 0);
    mark(NVRAM, word);
    await until('the variables are beside the volume', LINK_MS, async () =>
      copies(oldId).some((copy) => isMarked(copy, word)) ? true : null,
    );
    const files = volumesOf(oldId);
    t.equal(files.length, 5, 'two volumes and their labels, and the variables');

    t.equal((await restart('early')).status, 409, 'nothing moves while its node is heard of');
    process.kill(qemuPid(DOMAIN), 'SIGKILL');
    await old.end('SIGKILL');
    await untilNode(oldId, 'lost');
    t.match((await restart('unfenced')).body.error, { code: 'ILLEGAL_STATE', message: /not fenced/ });
    t.match((await lab.post(`/v1/nodes/${oldId}/fence`, BY)).body.node.fence, { number: 1 });
    const answer = await restart('fenced');
    t.equal(answer.status, 202, JSON.stringify(answer.body));
    t.match(await ended(answer), { kind: 'instance.takeover', state: 'succeeded' });
    t.same(volumesOf(oldId), []);
    t.same(volumesOf(otherId), files);
    t.ok(isMarked(daemon.pathOf(NVRAM), word));
    await untilUp(DOMAIN, uri);
    t.equal((await inGuest(DOMAIN, 'head -c 32 /dev/vdb', uri)).output, word);

    await old.start();
    await untilNode(oldId, 'ready');
    t.match((await lab.get(`/v1/nodes/${oldId}`)).body.node, { fence: null });
    const { instance } = await old.call('instance.show', { id: NAME });
    t.match(instance, { id, disowned: { reason: /another node/ } });
    t.not(instance.power.state, 'running');
    await t.rejects(old.call('instance.start', { id: NAME }), { code: 'ILLEGAL_STATE' });
    t.same(await leaksOf(old), []);
    await old.must('instance.delete', { id: NAME });
    t.same(volumesOf(otherId), files, 'what the old node deletes is none of these');
    t.equal((await inGuest(DOMAIN, 'head -c 32 /dev/vdb', uri)).output, word);

    t.match(await ended(await lab.ask('DELETE', `/v1/instances/${NAME}`)), { state: 'succeeded' });
    t.same([...volumesOf(oldId), ...volumesOf(otherId)], []);
  },
);

t.test(
  'a guest with two snapshots goes on elsewhere, and goes back to what it held at the first one',
  { skip, timeout: TEST_MS },
  async (t) => {
    const { lab, old, other, uri } = scene;
    const [oldId, otherId] = [await idOf(old), await idOf(other)];
    await made();
    await untilUp(DOMAIN);
    const digests: string[] = [];
    for (const snapshot of ['first', 'second', null]) {
      const wrote = await inGuest(DOMAIN, 'dd if=/dev/urandom of=/dev/vdb bs=1M count=4 conv=fsync');
      t.equal(wrote.code, 0);
      digests.push(await digestOf(DOMAIN));
      if (snapshot !== null) await old.must('snapshot.create', { id: NAME, name: snapshot });
    }
    t.equal(new Set(digests).size, 3);
    const files = volumesOf(oldId);
    const { snapshots } = await old.call('snapshot.list', { id: NAME });

    process.kill(qemuPid(DOMAIN), 'SIGKILL');
    await old.end('SIGKILL');
    await untilNode(oldId, 'lost');
    t.match(await lab.post(`/v1/nodes/${oldId}/fence`, BY), { status: 200 });
    t.match(await ended(await restart('layered')), { kind: 'instance.takeover', state: 'succeeded' });
    t.same(volumesOf(oldId), []);
    t.same(volumesOf(otherId), files);
    const taken = (await other.call('snapshot.list', { id: NAME })).snapshots;
    // The newest one counts as not quiesced: the record of it was written before its end.
    t.same(
      taken.map((each, at) => ({ ...each, quiesced: snapshots[at]?.quiesced })),
      snapshots,
    );
    await untilUp(DOMAIN, uri);
    t.equal(await digestOf(DOMAIN, uri), digests[2], 'what was written last');

    await other.must('snapshot.revert', { id: NAME, snapshot: 'first', force: true, start: true });
    await untilUp(DOMAIN, uri);
    t.equal(await digestOf(DOMAIN, uri), digests[0], 'what the first snapshot keeps');
    for (const snapshot of ['first', 'second']) await other.must('snapshot.delete', { id: NAME, snapshot });
    await other.must('snapshot.merge', { id: NAME });
    t.equal(await digestOf(DOMAIN, uri), digests[0]);
    t.same(await leaksOf(other), []);

    await old.start();
    await untilNode(oldId, 'ready');
    await old.must('instance.delete', { id: NAME });
    t.equal(await digestOf(DOMAIN, uri), digests[0]);
    t.match(await ended(await lab.ask('DELETE', `/v1/instances/${NAME}`)), { state: 'succeeded' });
    t.same([...volumesOf(oldId), ...volumesOf(otherId)], []);
  },
);

t.test(
  'a guest that runs on a node that was fenced by mistake is left alone',
  { skip, timeout: TEST_MS },
  async (t) => {
    const { lab, old, other } = scene;
    const [oldId, otherId] = [await idOf(old), await idOf(other)];
    await made();
    await untilUp(DOMAIN);
    const pid = qemuPid(DOMAIN);
    const files = volumesOf(oldId);
    await old.end('SIGKILL');
    await untilNode(oldId, 'lost');
    t.match((await lab.post(`/v1/nodes/${oldId}/fence`, BY)).body.node.fence, { number: 3 });
    const operation = await ended(await restart('mistaken'));
    t.match(operation, { state: 'failed' }, "QEMU's lock keeps the second guest from starting");
    t.match(operation.error.message, /lock/i);
    t.same(volumesOf(oldId), files, "and the volumes are the old node's again");
    t.same(volumesOf(otherId), []);
    t.same((await other.call('instance.list', {})).instances, []);
    t.same(await leaksOf(other), []);
    t.equal(qemuPid(DOMAIN), pid);
    t.equal(
      (await inGuest(DOMAIN, 'echo still here | dd of=/dev/vdb conv=fsync 2>/dev/null; head -c 10 /dev/vdb'))
        .output,
      'still here',
    );
    const { instance } = (await lab.get(`/v1/instances/${NAME}`)).body;
    t.match(instance, { phase: 'present' });

    const asked = {
      id: instance.id,
      spec: { ...spec(NAME, { disks: [{ volume: files[0]?.slice(0, 36) }], nics: [] }) },
      from: { node: oldId, fence: 3 },
      volumes: [{ id: files[0]?.slice(0, 36) as string, name: 'root', pool: 'common', sizeGib: 1 }],
    };
    await old.start();
    await untilNode(oldId, 'ready');
    await until('the end of the fence is in the pool', LINK_MS, async () => {
      const late = await other.run('instance.takeover', asked);
      return late.error?.code === 'STALE' ? true : null;
    });
    t.same(volumesOf(oldId), files);
    t.equal(qemuPid(DOMAIN), pid);
  },
);
