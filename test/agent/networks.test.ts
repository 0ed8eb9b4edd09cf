import t from 'tap';
import { readyAgent, spec } from './support/sim-agent.ts';

t.test(
  'a network whose bridge is gone at start is made again, with the ports of its instances',
  async (t) => {
    const sim = await readyAgent(t);
    await sim.run('instance.create', { spec: spec() });
    const { instance } = await sim.call('instance.show', { id: 'web' });
    const { bridge } = (await sim.call('network.show', { id: 'default' })).network;
    await sim.crash();
    sim.world.outside.stop(instance.id);
    sim.world.outside.removeBridge(bridge);
    await sim.restart();
    const ports = () => Object.keys(sim.world.bridges.get(bridge)?.ports ?? {});
    await sim.until(() => ports().length > 0);
    t.same(ports(), [instance.nics[0]?.portId]);
    t.equal((await sim.run('instance.start', { id: 'web' })).state, 'succeeded');
  },
);

t.test(
  'a network that turns out to be in the way of somebody else fails, and his bridge stays',
  async (t) => {
    const sim = await readyAgent(t);
    sim.world.faults.onCall((call) => {
      if (call.name === 'network.ensureNetwork')
        sim.world.outside.addForeignBridge(sim.agent.services.network.bridgeName(call.id ?? ''));
    });
    const operation = await sim.run('network.create', {
      spec: { name: 'second', cidr: '10.81.0.0/24', nat: true, dhcp: true, dnsServers: [] },
    });
    t.match(operation, { state: 'failed', error: { code: 'HOST_CONFLICT' } });
    t.equal(sim.world.bridges.size, 2, 'ours and the foreign one');
    t.same(
      (await sim.call('network.list')).networks.map(({ name }) => name),
      ['default'],
    );
  },
);
