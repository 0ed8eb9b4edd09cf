import { spawn } from 'node:child_process';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { findProgram } from '../../../src/drivers/host/examine.ts';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { type NotifyEnvironment, ServiceNotifier } from '../../../src/drivers/host/notify.ts';

const exec = new HostExec();

function notifier(environment: NotifyEnvironment, pid = process.pid): ServiceNotifier {
  return new ServiceNotifier({ exec, environment, pid });
}

/** A service manager's end of the socket: prints each datagram on a line, its line ends as |. */
const LISTEN = `use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; bind(S, pack_sockaddr_un($ARGV[0])) or die;
$| = 1; print "bound\\n"; while (defined recv(S, $m, 4096, 0)) { $m =~ s/\\n/|/g; print "$m\\n"; }`;

async function listen(t: Test): Promise<{ socket: string; next: () => Promise<string> }> {
  // A socket's path is at most 107 bytes: too short for t.testdir.
  const folder = await mkdtemp(join(tmpdir(), 'gqs-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const socket = join(folder, 'notify');
  const child = spawn('perl', ['-e', LISTEN, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => String((await lines.next()).value);
  t.equal(await next(), 'bound');
  await access(socket);
  return { socket, next };
}

const missing = (await findProgram('systemd-notify')) === null || (await findProgram('perl')) === null;
const skip = missing && 'systemd-notify or perl is not installed';

t.test('systemd hears that the daemon is ready, alive, how it is, and that it stops', { skip }, async (t) => {
  const { socket, next } = await listen(t);
  const service = notifier({ NOTIFY_SOCKET: socket });
  /** systemd-notify adds a BARRIER=1 of its own. */
  const heard = async () => {
    for (;;) {
      const line = await next();
      if (!line.startsWith('BARRIER')) return line.replace(/\|$/, '');
    }
  };
  await service.ready('serving\nREADY=0');
  t.equal(await heard(), 'READY=1|STATUS=serving READY=0');
  await service.alive();
  t.equal(await heard(), 'WATCHDOG=1');
  await service.status('x'.repeat(500));
  t.equal(await heard(), `STATUS=${'x'.repeat(200)}`);
  await service.stopping();
  t.equal(await heard(), 'STOPPING=1');
});

t.test('without a service manager nothing is run', async (t) => {
  const environment = { WATCHDOG_USEC: '1000000' };
  const fails = { run: () => Promise.reject(new Error('something was run')) };
  const service = new ServiceNotifier({ exec: fails, environment, pid: 1 });
  await service.ready('x');
  await service.alive();
  await service.stopping();
  t.equal(service.listening, false);
  t.equal(service.watchdogIntervalMs, null);
});

t.test('the watchdog is fed at half of its time, and only where it is meant for this process', async (t) => {
  const interval = (WATCHDOG_USEC?: string, WATCHDOG_PID?: string) =>
    notifier({ NOTIFY_SOCKET: '/run/x', WATCHDOG_USEC, WATCHDOG_PID }, 42).watchdogIntervalMs;
  t.equal(interval('30000000'), 15_000);
  t.equal(interval('30000000', '42'), 15_000);
  t.equal(interval('30000000', '43'), null);
  t.equal(interval(), null);
  t.equal(interval('0'), null);
  t.equal(interval('soon'), null);
});

t.test('a socket on which nobody listens is an error of the call', { skip }, async (t) => {
  await t.rejects(notifier({ NOTIFY_SOCKET: '/nonexistent/notify' }).alive(), { name: 'ProcessError' });
});
