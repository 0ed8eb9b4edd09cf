/**
 * What a client lives through when its daemon goes, with a real guest: the daemon is restarted, killed, frozen, away.
 */
import t, { type Test } from 'tap';
import {
  type Connection,
  type ConnectionState,
  type ConnectOptions,
  connect,
  constants,
  type Domain,
  type Gap,
} from '../../src/index.ts';
import { defineGuest, guestXml } from '../api/domain-guest.ts';
import { kindOf } from '../support/outcome.ts';
import { daemonMissing, type PrivateDaemon, startPrivateDaemon } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';

const { virDomainState: state, virDomainEventType: told } = constants;

/** Far more than a loaded machine needs, ms. */
const FILE_MS = 300_000;

t.setTimeout(FILE_MS);
const skip = daemonMissing();
const QEMU = 'qemu-system-x86_64';
/** A hung daemon is noticed after some 200 ms. */
const KEEPALIVE = { intervalMs: 50, count: 3 };
const RECONNECT = { initialMs: 10, maxMs: 50 };

interface Client {
  connection: Connection;
  /** Each change of its state. */
  states: ConnectionState[];
  gaps: Gap[];
  /** Attempts to connect again, so far. */
  attempts(): number;
}

async function clientOf(t: Test, daemon: PrivateDaemon, options: ConnectOptions = {}): Promise<Client> {
  let attempts = 0;
  const random = () => {
    attempts++;
    return 0;
  };
  const { socketPath } = daemon;
  const connection = await connect('qemu:///system', {
    socketPath,
    reconnect: RECONNECT,
    random,
    ...options,
  });
  t.teardown(() => connection.close());
  const states: ConnectionState[] = [];
  const gaps: Gap[] = [];
  connection.onStateChange((state) => states.push(state));
  connection.onGap((gap) => gaps.push(gap));
  return { connection, states, gaps, attempts: () => attempts };
}

/** A guest that runs, and calls about it that get no answer, since its QEMU is frozen. */
async function guestWithCalls(t: Test, { host }: PrivateDaemon, connection: Connection) {
  const domain = await defineGuest(t, connection, guestXml({ name: 'nlp-survivor' }));
  await domain.create();
  const [pid] = host.pidsOf(QEMU);
  if (pid === undefined) throw new Error('the guest does not run');
  process.kill(pid, 'SIGSTOP');
  const calls = Array.from({ length: 3 }, () => domain.qemuMonitorCommand('{"execute":"query-status"}'));
  await until(() => connection.load.long.inFlight > 0, 'the calls are on their way');
  return { domain, pid, calls };
}

for (const [how, end] of [
  ['an orderly restart', 'stop'],
  ['kill -9', 'kill'],
] as const) {
  t.test(`after ${how} of the daemon all is as before, and a gap is told`, { skip }, async (t) => {
    const daemon = await startPrivateDaemon(t);
    const { connection, states, gaps } = await clientOf(t, daemon);
    const { domain, pid, calls } = await guestWithCalls(t, daemon, connection);
    const events: number[] = [];
    await connection.onEvent('domain', 'lifecycle', ({ event }) => events.push(event), { domain });

    const ended = daemon[end]();
    t.same(
      await Promise.all(calls.map(kindOf)),
      ['closed', 'closed', 'closed'],
      'every pending call has failed',
    );
    process.kill(pid, 'SIGCONT');
    await ended;
    await until(() => connection.state === 'disconnected', 'the loss is noticed');
    t.equal(await kindOf(domain.getInfo()), 'closed', 'and so does a new one');
    await daemon.start();

    await until(() => gaps.length > 0, 'the gap is told');
    t.match(gaps, [{ cause: { kind: 'closed' }, lost: [] }]);
    t.same(states, ['disconnected', 'connected']);
    t.same(daemon.host.pidsOf(QEMU), [pid], 'the guest has noticed nothing');
    t.equal((await domain.getState()).state, state.VIR_DOMAIN_RUNNING);
    await domain.suspend();
    await until(() => events.length > 0, 'events come again');
    await domain.resume();
    await until(() => events.length > 1, 'and more of them');
    t.same(events, [told.VIR_DOMAIN_EVENT_SUSPENDED, told.VIR_DOMAIN_EVENT_RESUMED], 'each once');
    t.match(connection.load, { short: { inFlight: 0, waiting: 0 }, long: { inFlight: 0, waiting: 0 } });
    await domain.destroy();
  });
}

t.test('the reader of events finds the gap in its place', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const { connection } = await clientOf(t, daemon);
  const queue = await connection.events('domain', 'lifecycle');
  const define = (name: string): Promise<Domain> => defineGuest(t, connection, guestXml({ name }));
  await define('nlp-before');
  const seen = [await queue.next()];
  await daemon.restart();
  seen.push(await queue.next());
  await define('nlp-after');
  seen.push(await queue.next());
  t.match(
    seen.map(({ value }) => value),
    [
      { type: 'event', event: { domain: { name: 'nlp-before' } } },
      { type: 'gap', gap: { cause: { kind: 'closed' } } },
      { type: 'event', event: { domain: { name: 'nlp-after' } } },
    ],
  );
});

t.test('a stream fails once when its daemon is killed', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const { connection } = await clientOf(t, daemon);
  const devices = "<serial type='pty'/>";
  const domain = await defineGuest(t, connection, guestXml({ name: 'nlp-console', devices }));
  await domain.create();
  const console = await domain.openConsole('serial0');
  const errors: unknown[] = [];
  console.on('error', (error) => errors.push(error));
  const hasClosed = new Promise((resolve) => console.once('close', resolve));
  console.resume();
  await daemon.kill();
  await hasClosed;
  t.match(errors, [{ kind: 'closed' }]);
  await daemon.start();
  await until(() => connection.state === 'connected', 'it is connected again');
});

t.test('a daemon that hangs is noticed, and had again when it goes on', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const { connection, states, gaps } = await clientOf(t, daemon, { keepalive: KEEPALIVE });
  daemon.freeze();
  const calls = [connection.getHostname(), connection.listAllDomains(), connection.getCapabilities()];
  t.same(await Promise.all(calls.map(kindOf)), ['keepalive', 'keepalive', 'keepalive']);
  t.equal(await kindOf(connection.getHostname()), 'closed');
  daemon.thaw();
  await until(() => gaps.length > 0, 'it is connected again');
  t.match(gaps, [{ cause: { kind: 'keepalive' } }]);
  t.same(states, ['disconnected', 'connected']);
  t.ok(await connection.getHostname());
});

t.test('a daemon that hangs for less than that is waited for', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const { connection, states } = await clientOf(t, daemon);
  daemon.freeze();
  const calls = [connection.getHostname(), connection.getLibVersion(), connection.listAllDomains()];
  t.equal(await kindOf(connection.getHostname({ timeoutMs: 50 })), 'timeout');
  daemon.thaw();
  const [hostname, version, domains] = await Promise.all(calls);
  t.ok(hostname);
  t.ok(version);
  t.same(domains, []);
  t.same(states, []);
});

t.test('a daemon that is away is tried again until it is there', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const { connection, states, attempts } = await clientOf(t, daemon);
  await daemon.stop();
  await until(() => attempts() >= 5, 'some attempts have been made without a socket');
  t.equal(connection.state, 'disconnected');
  t.equal(await kindOf(connect('qemu:///system', { socketPath: daemon.socketPath })), 'unreachable');
  await daemon.start();
  await until(() => connection.state === 'connected', 'it is connected again');
  await daemon.kill();
  const before = attempts();
  await until(() => attempts() >= before + 5, 'some have been made on a socket where nobody listens');
  t.equal(await kindOf(connect('qemu:///system', { socketPath: daemon.socketPath })), 'unreachable');
  await daemon.start();
  await until(() => connection.state === 'connected', 'it is connected once more');
  t.ok(await connection.getHostname());
  t.same(states, ['disconnected', 'connected', 'disconnected', 'connected']);
});

t.test('whoever closes the connection, or wants no reconnection, is left alone', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t);
  const closed = await clientOf(t, daemon);
  const single = await clientOf(t, daemon, { reconnect: false });
  await daemon.stop();
  await until(() => closed.attempts() > 0, 'one tries again');
  await closed.connection.close();
  const attempts = closed.attempts();
  await daemon.start();
  const other = await clientOf(t, daemon);
  t.ok(await other.connection.getHostname());
  t.equal(closed.attempts(), attempts);
  t.equal(single.attempts(), 0);
  for (const { connection, states } of [closed, single]) {
    t.same(states, ['disconnected']);
    t.equal(await kindOf(connection.getHostname()), 'closed');
  }
});

t.test('a daemon with no room for another client lets it wait, and its time ends', { skip }, async (t) => {
  const daemon = await startPrivateDaemon(t, { conf: { max_clients: 1, max_anonymous_clients: 1 } });
  const { connection } = await clientOf(t, daemon);
  const { socketPath } = daemon;
  t.equal(await kindOf(connect('qemu:///system', { socketPath, callTimeoutMs: 100 })), 'timeout');
  t.equal(connection.state, 'connected');
  await connection.close();
  await using next = await connect('qemu:///system', { socketPath });
  t.equal(next.state, 'connected');
});
