/** The scheduler and the real agent, on a simulated host: that both sides mean the same by the wire. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Agent } from '../../src/agent/agent.ts';
import { parseConfig } from '../../src/agent/config/load.ts';
import { systemClock } from '../../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../../src/drivers/sim/index.ts';
import { eventually } from './support/eventually.ts';
import { type Answer, type Lab, startLab, TOKEN } from './support/lab.ts';
import { aSpec } from './support/samples.ts';

const IMAGE = 'https://images.example/debian.qcow2';
const GIB = 1024 ** 3;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

interface Host {
  hostname: string;
  agent: Agent;
  /** Stops the agent and starts the next one on the same host and state. */
  restart(): Promise<void>;
}

async function startHost(t: Test, lab: Lab): Promise<Host> {
  const folder = mkdtempSync(join(tmpdir(), 'gsch-'));
  writeFileSync(join(folder, 'token'), TOKEN);
  const world = new SimWorld({ clock: systemClock });
  world.sources.set(IMAGE, { sha256: 'a'.repeat(64), sizeBytes: 1_000_000, virtualSizeBytes: GIB });
  const makeAgent = (): Agent => {
    const config = parseConfig(
      `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/berth.sock"\n` +
        `[scheduler]\nurl = "${lab.url.replace('http', 'ws')}"\ntokenFile = "${folder}/token"\n`,
      'test.toml',
    );
    const { hypervisor, pool, pools, network, host, keys, objects } = createSimHost({ world });
    const drivers = { hypervisor, pool, pools, network, host, keys, objects };
    return new Agent({ config, drivers, clock: systemClock, log: SILENT });
  };
  const running: Host = {
    hostname: '',
    agent: makeAgent(),
    restart: async () => {
      await running.agent.stop();
      running.agent = makeAgent();
      await running.agent.start();
    },
  };
  await running.agent.start();
  t.teardown(async () => {
    await running.agent.stop();
    rmSync(folder, { recursive: true });
  });
  const node = await eventually(async () => (await lab.get('/v1/nodes')).body.nodes[0]);
  running.hostname = node.hostname;
  return running;
}

/** Follows the operation of an answer to its end. */
async function ended(lab: Lab, answer: Answer): Promise<{ state: string; error: unknown }> {
  const operation = answer.body.operation ?? answer.body.result?.operation;
  if (!operation) throw new Error(`no operation in ${JSON.stringify(answer.body)}`);
  return (await lab.get(`/v1/operations/${operation.id}?wait=30`)).body.operation;
}

async function prepare(t: Test, lab: Lab, host: Host): Promise<void> {
  const path = `/v1/nodes/${host.hostname}/call`;
  const image = { method: 'image.import', params: { name: 'debian', source: IMAGE } };
  t.match(await ended(lab, await lab.post(path, image)), { state: 'succeeded' });
  const network = { method: 'network.create', params: { spec: { name: 'lan', cidr: '10.80.0.0/24' } } };
  t.match(await ended(lab, await lab.post(path, network)), { state: 'succeeded' });
}

t.test('an instance lives its whole life through scheduler and agent', async (t) => {
  const lab = await startLab(t);
  const host = await startHost(t, lab);
  await prepare(t, lab, host);
  const spec = aSpec({ vcpus: 1, memoryMib: 256, nics: [{ network: 'lan' }], disks: [{ image: 'debian' }] });
  const created = await lab.post('/v1/instances', { spec }, { 'idempotency-key': 'once' });
  t.equal(created.status, 202);
  t.match(await ended(lab, created), { state: 'succeeded', error: null });
  const show = async () => (await lab.get('/v1/instances/web-1')).body.instance;
  await eventually(async () => (await show()).power?.state === 'running');
  t.match(await show(), { id: created.body.instance.id, phase: 'present', hostname: host.hostname });
  t.same((await lab.post('/v1/instances', { spec }, { 'idempotency-key': 'once' })).body, created.body);

  const stopped = await lab.post('/v1/instances/web-1/stop', { mode: 'forced' });
  t.match(await ended(lab, stopped), { state: 'succeeded' });
  await eventually(async () => (await show()).power.state === 'stopped');
  t.match(await ended(lab, await lab.post('/v1/instances/web-1/start')), { state: 'succeeded' });
  const deleted = await lab.ask('DELETE', '/v1/instances/web-1');
  t.match(await ended(lab, deleted), { state: 'succeeded' });
  await eventually(async () => (await lab.get('/v1/instances/web-1')).status === 404);
  const polled = await lab.post(`/v1/nodes/${host.hostname}/poll`);
  t.equal(polled.status, 200);
  t.match(polled.body, { instances: [], node: { claimed: { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 } } });
});

t.test('the agent refuses what its host lacks, and the scheduler passes it on', async (t) => {
  const lab = await startLab(t);
  await startHost(t, lab);
  const { status, body } = await lab.post('/v1/instances', { spec: aSpec({ vcpus: 1, memoryMib: 256 }) });
  t.equal(status, 404);
  t.equal(body.error.code, 'NOT_FOUND');
  t.match(body.error.message, /debian/);
});

t.test('an agent that comes back goes on with its events where it was', async (t) => {
  const lab = await startLab(t);
  const host = await startHost(t, lab);
  await prepare(t, lab, host);
  const path = `/v1/nodes/${host.hostname}`;
  await eventually(async () => (await lab.get(path)).body.node.lastSeq === lastSeqOf(host));
  await host.restart();
  await eventually(async () => {
    const { node } = (await lab.get(path)).body;
    return node.connected && node.lastSeq === lastSeqOf(host);
  });
  const { events } = (await lab.get(`${path}/events`)).body;
  const seqs = events.map(({ seq }: { seq: number }) => seq);
  t.same(
    seqs,
    seqs.map((_: number, at: number) => at + 1),
    'each once, none missed',
  );
});

function lastSeqOf(host: Host): number {
  return host.agent.services.store.events.lastSeq();
}
