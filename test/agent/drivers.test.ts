import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseConfig } from '../../src/agent/config/load.ts';
import { makeDrivers } from '../../src/agent/drivers.ts';
import { systemClock } from '../../src/drivers/contracts/clock.ts';
import { HostExec } from '../../src/drivers/host/exec.ts';

t.test('a simulated host is kept in the state folder, also where there is none yet', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-drivers-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const stateDir = join(folder, 'var', 'state');
  const config = parseConfig(`[node]\nstateDir = "${stateDir}"\n[hypervisor]\ndriver = "sim"\n`, 'test.toml');
  const say = () => undefined;
  const log = { debug: say, info: say, warn: say, error: say };
  const drivers = await makeDrivers(config, { clock: systemClock, exec: new HostExec(), log });
  t.teardown(() => drivers.hypervisor.close());
  t.ok(existsSync(join(stateDir, 'sim.json')));
});
