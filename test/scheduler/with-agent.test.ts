/** The scheduler and the real agent, on a simulated host: that both sides mean the same by the wire. */
import t from 'tap';
import { eventually } from './support/eventually.ts';
import { ended, type Host, prepare, startHost } from './support/host.ts';
import { startLab } from './support/lab.ts';
import { aSpec } from './support/samples.ts';

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
