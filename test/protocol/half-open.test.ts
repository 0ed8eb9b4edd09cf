/** A peer that stands still: its kernel acknowledges everything, and nobody is there (SIGSTOP). */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { Agent } from '../../src/agent/agent.ts';
import { parseConfig } from '../../src/agent/config/load.ts';
import { systemClock } from '../../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../../src/drivers/sim/index.ts';
import { eventually } from '../scheduler/support/eventually.ts';
import { startGateway } from '../scheduler/support/gateway-lab.ts';
import { TOKEN } from '../scheduler/support/lab.ts';

const ROOT = join(import.meta.dirname, '../..');
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

function launch(t: Test, ...args: string[]): ChildProcess {
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  const child = spawn(process.execPath, ['--conditions=berth-source', ...args], {
    cwd: ROOT,
    stdio: [...stdio],
  });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

async function portOf(child: ChildProcess): Promise<number> {
  for await (const line of createInterface(child.stdout!)) {
    const { msg, address } = JSON.parse(line) as { msg: string; address?: { port: number } };
    if (msg === 'listening' && address !== undefined) return address.port;
  }
  throw new Error('it ended without listening');
}

t.test(
  'a scheduler that is stopped is noticed in seconds, and the link comes back when it goes on',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'berth-half-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const listen = ['--listen', '127.0.0.1:0', '--heartbeat-seconds', '1', '--state-dir', join(folder, 's')];
    const scheduler = launch(t, 'src/scheduler/main.ts', ...listen);
    const port = await portOf(scheduler);
    scheduler.stdout!.resume();
    const config = parseConfig(
      `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/b.sock"\n` +
        `[scheduler]\nurl = "ws://127.0.0.1:${port}"\ntokenFile = "${folder}/s/token"\n`,
      'test.toml',
    );
    t.ok(readFileSync(join(folder, 's', 'token'), 'utf8'));
    const drivers = createSimHost({ world: new SimWorld({ clock: systemClock }) });
    const agent = new Agent({ config, drivers, clock: systemClock, log: SILENT });
    await agent.start();
    t.teardown(() => agent.stop());
    const link = async () => {
      const status = await agent.dispatcher.call('node.status', {}, { role: 'observe' });
      return (status as { scheduler: { state: string; reason: string } }).scheduler;
    };
    await eventually(async () => (await link()).state === 'ok');
    scheduler.kill('SIGSTOP');
    await eventually(async () => (await link()).state !== 'ok');
    t.match((await link()).reason, /silent/);
    scheduler.kill('SIGCONT');
    await eventually(async () => (await link()).state === 'ok');
  },
);

t.test('an agent that is stopped is noticed within two probes', async (t) => {
  const lab = await startGateway(t, { probeIntervalMs: () => 500 });
  const clients = launch(t, 'bench/link-clients.ts', lab.url.replace('/v1/agent', ''), '1', TOKEN);
  const nodeId = await eventually(() => lab.introduced[0]);
  clients.kill('SIGSTOP');
  await eventually(() => lab.links.session(nodeId) === null);
  t.pass('its link is ended');
});
