/** Several gateways on a real NATS: links go through, and nothing is lost or done twice when one of them dies. */
import t, { type Test } from 'tap';
import { eventually } from '../support/eventually.ts';
import type { FakeAgent } from '../support/fake-agent.ts';
import { type Lab, startLab, TOKEN } from '../support/lab.ts';
import { Balancer, GatewayProcess, NatsServer, natsMissing } from '../support/nats.ts';
import { aSpec } from '../support/samples.ts';

interface Fleet {
  nats: NatsServer;
  lab: Lab;
  balancer: Balancer;
  gateways: GatewayProcess[];
  /** An agent that connects again, by the balancer, whenever its link has ended. */
  agent(hostname: string): Promise<FakeAgent>;
  isConnected(agent: FakeAgent): Promise<boolean>;
}

async function startFleet(t: Test): Promise<Fleet> {
  const nats = new NatsServer();
  await nats.start();
  t.teardown(() => nats.stop());
  const bus = { urls: [nats.url], tokenFile: null, name: 'a test' };
  const lab = await startLab(t, undefined, { bus, heartbeatSeconds: 1 });
  const gateways = [await GatewayProcess.start(nats, lab.stateDir, TOKEN)];
  gateways.push(await GatewayProcess.start(nats, lab.stateDir, TOKEN));
  t.teardown(() => Promise.all(gateways.map((gateway) => gateway.stop())));
  const balancer = new Balancer();
  balancer.ports = gateways.map(({ port }) => port);
  await balancer.start();
  t.teardown(() => balancer.close());
  let isOver = false;
  t.teardown(() => {
    isOver = true;
  });
  const agent = async (hostname: string) => {
    const made = await lab.node({ hostname, url: balancer.url });
    void keepConnected(made, () => isOver);
    return made;
  };
  const isConnected = async ({ nodeId }: FakeAgent) =>
    (await lab.get(`/v1/nodes/${nodeId}`)).body.node.connected;
  return { nats, lab, balancer, gateways, agent, isConnected };
}

/** As an agent does it: connects again, whenever its link has ended. */
async function keepConnected(agent: FakeAgent, isOver: () => boolean): Promise<void> {
  const isClosed = () => isOver() || agent.closeCode !== null;
  while (!isOver()) {
    await eventually(isClosed).catch(() => undefined);
    if (isOver() || agent.closeCode === null) continue;
    const connected = agent.connect().catch(() => {
      agent.closeCode ??= 1006;
    });
    await Promise.race([connected, eventually(isClosed).catch(() => undefined)]);
  }
}

const create = (lab: Lab, name: string, node?: string) =>
  lab.post(
    '/v1/instances',
    {
      spec: aSpec({ name, vcpus: 1, memoryMib: 64, disks: [{ image: 'x', sizeGib: 1 }] }),
      ...(node && { node }),
    },
    { 'idempotency-key': name },
  );

t.test('gateways', { skip: natsMissing }, async (t) => {
  links(t);
  deaths(t);
});

function links(t: Test): void {
  t.test('an instance is made, told of and deleted through a gateway as through the own door', async (t) => {
    const { lab, agent } = await startFleet(t);
    const node = await agent('alpha');
    const { status, body } = await create(lab, 'web');
    t.equal(status, 202);
    node.finishCreation(body.operation);
    await eventually(
      async () => (await lab.get('/v1/instances/web')).body.instance.power?.state === 'running',
    );
    t.equal((await lab.ask('DELETE', '/v1/instances/web')).status, 202);
    node.remove(body.instance.id);
    await eventually(async () => (await lab.get('/v1/instances/web')).status === 404);
    await eventually(() => node.acked === node.events.at(-1)?.seq);
  });

  t.test('a message that is longer than NATS carries goes through whole', async (t) => {
    const { lab, agent } = await startFleet(t);
    const node = await agent('alpha');
    const userData = `#cloud-config\n# ${'ü'.repeat(60_000)}\n`;
    const spec = aSpec({ userData, sshAuthorizedKeys: Array.from({ length: 60 }, () => 'k'.repeat(14_000)) });
    t.equal((await lab.post('/v1/instances', { spec })).status, 202);
    t.same(node.received('instance.create')[0]?.['spec'], spec);
    const large = Array.from({ length: 4 }, (_, at) => ({
      ...node.instances.values().next().value,
      id: at,
    }));
    node.answer('instance.list', () => ({ instances: large }));
    const polled = await lab.post('/v1/nodes/alpha/poll');
    t.match(polled.body.error?.message ?? '', /does not fit/, 'read to its end, and judged');
  });

  t.test('who has no token, or asks for another path, is turned away by the gateway', async (t) => {
    const { balancer } = await startFleet(t);
    const ask = async (path: string, token: string) =>
      (await fetch(`${balancer.url}${path}`, { headers: { authorization: `Bearer ${token}` } })).status;
    t.equal(await ask('/healthz', ''), 200);
    t.equal(await ask('/v1/instances', TOKEN), 404, 'the HTTP API is not here');
    const { FakeAgent: Agent } = await import('../support/fake-agent.ts');
    await t.rejects(new Agent({ url: balancer.url, token: 'another-token-of-16' }).open(), /401/);
  });
}

function deaths(t: Test): void {
  t.test(
    'a gateway that is killed with commands under way: all are done, each once, no event is lost',
    async (t) => {
      const { lab, agent, gateways, isConnected } = await startFleet(t);
      const agents = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => agent(name)));
      const creating = Array.from({ length: 60 }, (_, at) => create(lab, `web-${at}`));
      await eventually(() => sum(agents, (each) => each.received('instance.create').length) >= 10);
      await gateways[0]!.kill();
      const answers = await Promise.all(creating);
      // Each has its answer, or its command is in the journal and is done as soon as its node is back.
      t.same(new Set(answers.map(({ status }) => status)), new Set([202]));
      await eventually(async () => (await Promise.all(agents.map(isConnected))).every(Boolean));
      await eventually(() => sum(agents, (each) => each.instances.size) === 60);
      const repeats = await Promise.all(answers.map((_, at) => create(lab, `web-${at}`)));
      t.ok(repeats.every(({ body }) => body.operation !== null));
      t.equal(
        sum(agents, (each) => each.instances.size),
        60,
        'none is done twice',
      );
      for (const each of agents) {
        await eventually(() => each.acked === each.events.at(-1)?.seq);
        const { events } = (await lab.get(`/v1/nodes/${each.nodeId}/events`)).body;
        t.same(events, each.events, 'each event once, in order');
      }
    },
  );

  t.test(
    'a command to a node whose gateway is gone fails at once, and is done when it is back',
    async (t) => {
      const { lab, agent, gateways, balancer, isConnected } = await startFleet(t);
      balancer.ports = [gateways[0]!.port];
      const node = await agent('alpha');
      const { body } = await create(lab, 'web');
      node.finishCreation(body.operation);
      await eventually(async () => (await lab.get('/v1/instances/web')).body.instance.phase === 'present');
      balancer.ports = [];
      await gateways[0]!.kill();
      await eventually(async () => !(await isConnected(node)));
      const refused = await lab.post('/v1/instances/web/stop');
      t.equal(refused.status, 503);
      t.match(refused.body.error, { code: 'UNAVAILABLE', message: /not connected/ });
      balancer.ports = [gateways[1]!.port];
      await eventually(() => isConnected(node));
      t.equal((await lab.post('/v1/instances/web/stop')).status, 202);
    },
  );

  t.test('a scheduler that is started again gets its nodes back through the gateways', async (t) => {
    const { lab, agent, balancer, isConnected } = await startFleet(t);
    const node = await agent('alpha');
    await create(lab, 'web');
    await lab.restart();
    node.url = balancer.url;
    await eventually(() => isConnected(node));
    await eventually(() => node.acked === node.events.at(-1)?.seq);
    t.equal((await lab.post('/v1/instances/web/stop')).status, 202);
  });

  t.test('a NATS that was away: all links are ended, and are there again when it is back', async (t) => {
    const { lab, nats, agent, isConnected } = await startFleet(t);
    const node = await agent('alpha');
    await nats.stop();
    await eventually(async () => !(await isConnected(node)));
    await nats.start();
    await eventually(() => isConnected(node));
    t.equal((await create(lab, 'web')).status, 202);
  });
}

function sum(agents: readonly FakeAgent[], of: (agent: FakeAgent) => number): number {
  return agents.reduce((all, agent) => all + of(agent), 0);
}
