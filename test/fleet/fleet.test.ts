/** A small fleet against a real gateway: that nothing is lost, doubled or astray, and nothing is left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { eventually } from '../scheduler/support/eventually.ts';

const MAIN = join(import.meta.dirname, '../../fleet/main.ts');
const SMALL = ['--seconds', '1', '--heartbeat-seconds', '1', '--creates', '8', '--commands', '4'];
const KEYS = [
  'agents',
  'gatewayRssPerAgentBytes',
  'steadyCpuPercent',
  'heartbeatBytes',
  'reconnectSeconds',
  'eventsSent',
  'eventsLost',
  'eventsDoubled',
  'createsPerSecond',
  'commandP99Ms',
];

/** A machine that is busy takes its time for a gateway, workers and all scenarios, ms. */
t.setTimeout(300_000);

/** With a folder of its own for whatever it makes. */
function launch(t: Test, ...args: string[]): { child: ChildProcess; folder: string } {
  const folder = mkdtempSync(join(tmpdir(), 'flt-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const child = spawn(process.execPath, ['--conditions=berth-source', MAIN, ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  return { child, folder };
}

/** Processes that work in this folder. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`TMPDIR=${folder}\0`);
      } catch {
        return false; // it has ended meanwhile
      }
    });
}

async function run(t: Test, ...args: string[]): Promise<Record<string, number>> {
  t.setTimeout(150_000);
  const { child, folder } = launch(t, '--json', ...SMALL, ...args);
  const [out, err, [code]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'exit'),
  ]);
  t.equal(code, 0, err);
  t.same(processesOf(folder), [], 'no process is left');
  t.same(
    readdirSync(folder).filter((name) => name.startsWith('berth-fleet-')),
    [],
    'no folder is left',
  );
  return JSON.parse(out);
}

function isSound(t: Test, result: Record<string, number>): void {
  for (const key of KEYS) t.type(result[key], 'number', key);
  t.match(result, { eventsLost: 0, eventsDoubled: 0, instancesAstray: 0 });
  t.ok(Number(result['eventsSent']) > 100, 'there were events');
  t.ok(Number(result['heartbeatBytes']) <= 120, 'a heartbeat without news is small');
}

t.test('light and full agents go through all scenarios, and nothing is lost or doubled', async (t) => {
  const result = await run(t, '--agents', '20', '--full', '3', '--processes', '2');
  t.equal(result['agents'], 20);
  isSound(t, result);
});

t.test('the same with certificates over TLS', async (t) => {
  isSound(t, await run(t, '--agents', '4', '--full', '1', '--processes', '1', '--tls'));
});

t.test('what is not allowed is told with the usage and exit code 2', async (t) => {
  const { child } = launch(t, '--agents', 'many');
  const [err, [code]] = await Promise.all([text(child.stderr!), once(child, 'exit')]);
  t.equal(code, 2);
  t.match(err, /Give a whole number[\s\S]*Usage/);
});

t.test('an interrupt ends all processes, and leaves nothing behind', async (t) => {
  const { child, folder } = launch(t, '--agents', '4', '--seconds', '3600', '--scenario', 'steady');
  for await (const line of createInterface(child.stderr!)) if (/watching/.test(line)) break;
  child.stdout!.resume();
  child.kill('SIGINT');
  const [code] = await once(child, 'exit');
  t.equal(code, 1);
  await eventually(() => processesOf(folder).length === 0);
  t.same(
    readdirSync(folder).filter((name) => name.startsWith('berth-fleet-')),
    [],
    'no folder is left',
  );
});

t.test('workers and gateway end where the process that has started them is killed', async (t) => {
  const { child, folder } = launch(t, '--agents', '4', '--seconds', '3600', '--scenario', 'steady');
  for await (const line of createInterface(child.stderr!)) if (/watching/.test(line)) break;
  child.kill('SIGKILL');
  await once(child, 'exit');
  await eventually(() => processesOf(folder).length === 0);
});
