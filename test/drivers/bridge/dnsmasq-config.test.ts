import t from 'tap';
import { startCommand } from '../../../src/drivers/bridge/dnsmasq.ts';
import {
  dnsmasqConfig,
  hostLine,
  needsDnsmasq,
  parseLeases,
} from '../../../src/drivers/bridge/dnsmasq-config.ts';
import { networkFiles } from '../../../src/drivers/bridge/names.ts';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import fc from '../../property.ts';
import { matchesGolden } from './golden.ts';
import { labLacks } from './lab.ts';
import { anyPlan, SAMPLES } from './plan-samples.ts';

const STATE_DIR = '/run/berth/networks';
const HOST = { user: 'dnsmasq' };

for (const [name, plan] of Object.entries(SAMPLES)) {
  t.test(`the configuration of ${name} is the golden one`, async (t) => {
    matchesGolden(t, `${name}.conf`, dnsmasqConfig(plan, networkFiles(STATE_DIR, plan.id), HOST));
  });
}

t.test('dnsmasq takes every golden configuration', { skip: await labLacks() }, async () => {
  for (const name of Object.keys(SAMPLES)) {
    const file = new URL(`golden/${name}.conf`, import.meta.url).pathname;
    await new HostExec().run('dnsmasq', ['--test', `--conf-file=${file}`]);
  }
});

t.test('a configuration serves one bridge only and never the host’s loopback', async (t) => {
  fc.assert(
    fc.property(anyPlan, (plan) => {
      const lines = dnsmasqConfig(plan, networkFiles(STATE_DIR, plan.id), HOST).split('\n');
      t.same(
        lines.filter((line) => /^(interface|except-interface|bind-interfaces)/.test(line)),
        [`interface=${plan.bridge}`, 'except-interface=lo', 'bind-interfaces'],
      );
      t.equal(lines.includes('port=0'), plan.dnsServers.length > 0, 'no resolver where others are given');
      t.equal(
        lines.some((line) => line.startsWith('dhcp-range=')),
        plan.dhcp,
      );
      t.equal(needsDnsmasq(plan), plan.dhcp || plan.dnsServers.length === 0);
    }),
  );
});

t.test('a port is one line of hardware address, address and name', async (t) => {
  const port = { id: '', macAddress: '52:54:00:00:00:01', ipAddress: '10.80.0.10', hostname: 'web' };
  t.equal(hostLine(port), '52:54:00:00:00:01,10.80.0.10,web\n');
});

t.test('leases are read line by line, and damaged lines are left out', async (t) => {
  const text = '1760000000 52:54:00:00:00:01 10.80.0.10 web 01:52:54:00:00:00:01\n\nrubbish\n';
  t.match(parseLeases(text), [{ macAddress: '52:54:00:00:00:01', ipAddress: '10.80.0.10' }]);
  t.equal(parseLeases(text).length, 1);
});

t.test('systemd starts dnsmasq in a unit of its own that is collected when it ends', async (t) => {
  const networkId = SAMPLES['nat-dhcp']!.id;
  const files = networkFiles(STATE_DIR, networkId);
  const command = startCommand({ networkId, files, serviceManager: 'systemd' });
  t.equal(command[0], 'systemd-run');
  t.ok(command.includes('--collect'));
  t.ok(command.includes('--property=Type=forking'));
  t.same(command.slice(command.indexOf('--') + 1), ['dnsmasq', `--conf-file=${files.config}`]);
  t.same(startCommand({ networkId, files, serviceManager: 'none' }), [
    'dnsmasq',
    `--conf-file=${files.config}`,
  ]);
});
