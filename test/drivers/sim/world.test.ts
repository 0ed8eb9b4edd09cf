/**
 * The world in its file: whole after a kill at any moment, and the same to the next process.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createSimHost, SimClock, SimWorld } from '../../../src/drivers/sim/index.ts';
import { build, INSTANCE_ID, SOURCE, SOURCE_FACTS } from './build.ts';
import { guestDefinition } from './rig.ts';

const PROCESS = fileURLToPath(new URL('./agent-process.ts', import.meta.url));
/** Far more than a process takes to start and make its calls, milliseconds. */
const PROCESS_TIMEOUT_MS = 30_000;

/** Calls that `build` makes; the last two define and start the guest. */
const CALLS = 6;

/** Runs the process to its end; the signal that ended it, or null. */
function runProcess(statePath: string, killAfter: number): NodeJS.Signals | null {
  const args = ['--conditions=berth-source', PROCESS, statePath, String(killAfter)];
  const { signal, status, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: PROCESS_TIMEOUT_MS,
    env: { ...process.env, NODE_OPTIONS: '' }, // without the test runner's own hooks, which are slow to load
    killSignal: 'SIGTERM',
  });
  if (signal === null && status !== 0) throw new Error(`the process failed: ${stderr}`);
  return signal;
}

/** A world in a file, with the one image that `build` needs. */
function prepare(statePath: string): void {
  const world = new SimWorld({ statePath });
  world.sources.set(SOURCE, SOURCE_FACTS);
  world.touch();
  world.flush();
}

t.test('a process killed after any of its calls leaves a world that can be built on', async (t) => {
  const folder = t.testdir();
  for (let killAfter = 0; killAfter <= CALLS; killAfter++) {
    const statePath = join(folder, `world-${killAfter}.json`);
    prepare(statePath);
    const signal = runProcess(statePath, killAfter);
    t.equal(signal, killAfter < CALLS ? 'SIGKILL' : null);
    const host = createSimHost({ statePath });
    const before = await host.hypervisor.observeGuest(INSTANCE_ID);
    t.equal(before?.power, ['stopped', 'running', 'running'][killAfter - (CALLS - 2)]);
    await build(host);
    t.match(await host.hypervisor.observeGuest(INSTANCE_ID), { power: 'running', ours: true });
    t.equal((await host.pool.list()).length, 2, 'one image and one volume');
  }
  t.notOk(
    readdirSync(folder).some((name) => name.endsWith('.new')),
    'nothing half-written stays',
  );
});

t.test('what a killed process has started runs on, and boots in the world of the next', async (t) => {
  const statePath = join(t.testdir(), 'world.json');
  prepare(statePath);
  t.equal(runProcess(statePath, CALLS - 1), 'SIGKILL', 'after the start, before its answer');
  const { hypervisor, world } = createSimHost({ statePath });
  t.match(await hypervisor.observeGuest(INSTANCE_ID), { power: 'running' });
  t.equal(world.guests.usedMemoryMib, 128);
  t.equal(world.guests.get(INSTANCE_ID)?.booted, false);
  await (world.clock as SimClock).advance(3_000);
  t.equal(world.guests.get(INSTANCE_ID)?.booted, true);
  t.match(await hypervisor.guestAddresses(INSTANCE_ID), [{ address: '10.203.1.11' }]);
});

t.test('time goes on where the file says, and settings stay unless they are given anew', async (t) => {
  const statePath = join(t.testdir(), 'world.json');
  const first = createSimHost({ statePath, hostname: 'one', timing: { bootMs: 7 } });
  await (first.world.clock as SimClock).advance(5_000);
  await first.hypervisor.define(guestDefinition({ id: INSTANCE_ID }));
  const second = createSimHost({ statePath, cpus: 3 });
  t.equal(second.world.clock.now(), first.world.clock.now());
  t.match(second.world.settings, { hostname: 'one', cpus: 3, timing: { bootMs: 7, shutdownMs: 1_500 } });
  t.same(await second.hypervisor.observe(), await first.hypervisor.observe());
});

t.test('what happens without a call is written too', async (t) => {
  const statePath = join(t.testdir(), 'world.json');
  const { hypervisor, world } = createSimHost({ statePath });
  await hypervisor.define(guestDefinition({ id: INSTANCE_ID }));
  await hypervisor.start(INSTANCE_ID);
  await (world.clock as SimClock).advance(3_000);
  t.equal(new SimWorld({ statePath }).guests.get(INSTANCE_ID)?.booted, true);
  world.outside.crash(INSTANCE_ID);
  t.equal(new SimWorld({ statePath }).guests.get(INSTANCE_ID)?.power, 'crashed');
});

t.test('a file that holds no world is refused, and stays', async (t) => {
  const statePath = join(t.testdir(), 'world.json');
  for (const text of ['', '{"version":99}', '[]', 'null']) {
    writeFileSync(statePath, text);
    t.throws(() => new SimWorld({ statePath, clock: new SimClock() }), { code: 'INVALID_ARGUMENT' }, text);
  }
});
