/** A connection to a daemon that misbehaves: the far side is a private fake on a unix socket. */
import t, { type Test } from 'tap';
import { type ConnectOptions, connect } from '../src/connect.ts';
import type { Connection } from '../src/connection.ts';
import {
  LibvirtError,
  type LibvirtTransportError,
  LibvirtUnsupportedError,
  LibvirtUsageError,
} from '../src/errors.ts';
import { BUSY_REPLIES, STUCK_MS } from '../src/rpc/calls.ts';
import type { Frame } from '../src/rpc/framing.ts';
import { PING } from '../src/rpc/keepalive.ts';
import { FakeDaemon, type Peer } from './support/fake-daemon.ts';
import { failureOf, kindOf } from './support/outcome.ts';
import { until } from './support/until.ts';

const FAST = { initialMs: 1, maxMs: 10 };

async function setup(
  t: Test,
  options: ConnectOptions = {},
): Promise<{ daemon: FakeDaemon; connection: Connection }> {
  const daemon = await FakeDaemon.start();
  const connection = await connect('test:///default', {
    socketPath: daemon.socketPath,
    reconnect: false,
    ...options,
  });
  t.teardown(async () => {
    await connection.close();
    await daemon[Symbol.asyncDispose]();
  });
  return { daemon, connection };
}

/** Makes the daemon keep the calls of a procedure; they can be answered later. */
function hold(daemon: FakeDaemon, procedure: string): { peer: Peer; call: Frame }[] {
  const held: { peer: Peer; call: Frame }[] = [];
  daemon.on(procedure, (peer, call) => void held.push({ peer, call }));
  return held;
}

t.test('the first call on a connection asks for the authentication', async (t) => {
  const { daemon } = await setup(t);
  t.same(
    daemon.peers[0]?.received.map((frame) => frame.procedure),
    [66, 60, 1],
  );
});

t.test('a daemon that wants SASL is a typed error', async (t) => {
  await using daemon = await FakeDaemon.start();
  daemon.on('authList', (peer, call) => {
    peer.reply(call, (w) => {
      w.uint(1);
      w.int(1);
    });
  });
  t.equal(await kindOf(connect('test:///default', { socketPath: daemon.socketPath })), 'auth');
});

t.test('a missing socket, a socket without listener and an aborted attempt are typed errors', async (t) => {
  t.equal(await kindOf(connect('test:///default', { socketPath: '/nonexistent/nlv-sock' })), 'unreachable');
  await using daemon = await FakeDaemon.start();
  hold(daemon, 'connectOpen');
  t.equal(
    await kindOf(connect('test:///default', { socketPath: daemon.socketPath, callTimeoutMs: 500 })),
    'timeout',
  );
  const options = { socketPath: daemon.socketPath, signal: AbortSignal.timeout(20) };
  t.equal(await kindOf(connect('test:///default', options)), 'aborted');
  await until(
    () => daemon.peers.every((peer) => peer.socket.destroyed),
    'the attempts leave no connection behind',
  );
});

t.test('a hanging call times out, its late reply is dropped, and the connection goes on', async (t) => {
  const { daemon, connection } = await setup(t);
  const held = hold(daemon, 'connectGetHostname');
  t.equal(await kindOf(connection.getHostname({ timeoutMs: 20 })), 'timeout');
  t.match(connection.load.short, { inFlight: 1, abandoned: 1 });
  held[0]?.peer.reply(held[0].call, (w) => w.string('late', 100));
  t.equal(await connection.getLibVersion(), 9_000_000);
  t.match(connection.load.short, { inFlight: 0, abandoned: 0 });
});

t.test(
  'no more than four calls are outstanding on a connection, and all are answered in the end',
  async (t) => {
    const { daemon, connection } = await setup(t);
    const held = hold(daemon, 'connectGetHostname');
    const calls = Array.from({ length: 10 }, () => connection.getHostname());
    await until(() => held.length === 4, 'four calls have come');
    await connection.call('connectGetLibVersion', undefined, { role: 'control' });
    t.equal(held.length, 4);
    t.match(connection.load.short, { inFlight: 4, waiting: 6, channels: 1 });
    daemon.on('connectGetHostname', (peer, call) => peer.reply(call, (w) => w.string('h', 10)));
    for (const { peer, call } of held) peer.reply(call, (w) => w.string('h', 10));
    t.same(
      await Promise.all(calls),
      Array.from({ length: 10 }, () => 'h'),
    );
  },
);

t.test('calls that hang for ever leave room for others on a second connection', async (t) => {
  const { daemon, connection } = await setup(t);
  const held = hold(daemon, 'connectGetHostname');
  const caller = new AbortController();
  const hanging = Array.from({ length: 4 }, () => kindOf(connection.getHostname({ signal: caller.signal })));
  await until(() => held.length === 4, 'four calls have come');
  caller.abort();
  t.same(new Set(await Promise.all(hanging)), new Set(['aborted']));
  t.equal(await connection.getLibVersion(), 9_000_000);
  t.match(connection.load.short, { abandoned: 4 });
});

t.test('calls that wait behind some that hang move to a second connection', async (t) => {
  const { daemon, connection } = await setup(t);
  const held = hold(daemon, 'connectGetHostname');
  const aborts = new AbortController();
  const hanging = Array.from({ length: 5 }, () => kindOf(connection.getHostname({ signal: aborts.signal })));
  const waiting = [connection.getLibVersion(), connection.getLibVersion()];
  t.match(connection.load.short, { waiting: 0, channels: 0 }, 'the first connection is being opened');
  await until(() => held.length === 4, 'four calls hang');
  t.match(connection.load.short, { inFlight: 4, waiting: 3, channels: 1 });
  t.same(await Promise.all(waiting), [9_000_000, 9_000_000]);
  t.match(connection.load.short, { inFlight: 5, waiting: 0, channels: 2 });
  t.equal(held.length, 5, 'the fifth that hangs was sent once, by the second connection');
  aborts.abort();
  t.same(new Set(await Promise.all(hanging)), new Set(['aborted']));
});

/** Makes so many callers that each call again and again, until so many replies have come. */
async function keepBusy(connection: Connection, callers: number, replies: number): Promise<void> {
  let left = replies;
  const call = async () => {
    while (left-- > 0) await connection.getLibVersion();
  };
  await Promise.all(Array.from({ length: callers }, call));
}

t.test('calls that always have to wait get a second connection, which ends with them', async (t) => {
  const { daemon, connection } = await setup(t);
  await keepBusy(connection, 64, BUSY_REPLIES / 2);
  t.equal(daemon.peers.length, 2, 'a burst is served by one connection, besides the one for control');
  const working = keepBusy(connection, 64, 20 * BUSY_REPLIES);
  await until(() => connection.load.short.inFlight > 4, 'calls go over both connections');
  t.match(connection.load.short, { channels: 2, inFlight: 8 });
  await working;
  await connection.getLibVersion();
  t.match(connection.load.short, { channels: 1, inFlight: 0, waiting: 0 });
});

t.test('where there is no second connection to be had, busy callers share the first', async (t) => {
  const { daemon, connection } = await setup(t);
  await connection.getLibVersion();
  daemon.on('connectOpen', (peer, call) => peer.refuse(call, 1, 'too many clients'));
  await keepBusy(connection, 64, 10 * BUSY_REPLIES);
  t.match(connection.load.short, { channels: 1 });
  t.equal(daemon.peers.length, 3, 'it was tried once');
});

t.test('calls that come after a pause are not taken for stuck', async (t) => {
  const { daemon, connection } = await setup(t);
  const held = hold(daemon, 'connectGetHostname');
  const pause = kindOf(connection.getHostname({ timeoutMs: STUCK_MS + 100 }));
  t.equal(await pause, 'timeout', 'nothing has been answered for that long');
  const burst = Array.from({ length: 3 }, () => connection.getHostname());
  const waiting = connection.getLibVersion();
  t.match(connection.load.short, { inFlight: 4, waiting: 1, channels: 1 });
  await until(() => held.length === 4, 'they have come');
  for (const { peer, call } of held) peer.reply(call, (w) => w.string('h', 10));
  t.same(await Promise.all([...burst, waiting]), ['h', 'h', 'h', 9_000_000]);
  t.equal(daemon.peers.length, 2, 'one connection has served them, besides the one for control');
});

t.test('a call that has moved ends at its own time, counted from the call', async (t) => {
  const { daemon, connection } = await setup(t);
  hold(daemon, 'connectGetHostname');
  const hanging = Array.from({ length: 9 }, () => connection.getHostname({ timeoutMs: 1_500 }));
  t.same(new Set(await Promise.all(hanging.map(kindOf))), new Set(['timeout']));
  t.match(connection.load.short, { waiting: 0, channels: 2 });
});

t.test('long calls that hang hold up neither short nor control calls', async (t) => {
  const { daemon, connection } = await setup(t);
  hold(daemon, 'connectGetCapabilities');
  const hanging = Array.from({ length: 20 }, () => kindOf(connection.getCapabilities()));
  t.equal(await connection.getLibVersion(), 9_000_000);
  t.equal(
    (await connection.call('connectGetLibVersion', undefined, { role: 'control' })).lib_ver,
    9_000_000n,
  );
  await connection.close();
  t.same(new Set(await Promise.all(hanging)), new Set(['closed']));
});

t.test('when the daemon closes, every pending call is rejected exactly once', async (t) => {
  const { daemon, connection } = await setup(t);
  const held = hold(daemon, 'connectGetHostname');
  const states: string[] = [];
  connection.onStateChange((state) => states.push(state));
  const kinds: string[] = [];
  const calls = Array.from({ length: 10 }, () =>
    connection.getHostname().catch((error: LibvirtTransportError) => void kinds.push(error.kind)),
  );
  await until(() => held.length === 4, 'four calls have come');
  daemon.dropAll();
  await Promise.all(calls);
  t.same(
    kinds,
    Array.from({ length: 10 }, () => 'closed'),
  );
  await until(() => states.length === 1, 'the state has changed');
  t.same(states, ['disconnected']);
  t.equal(await kindOf(connection.getHostname()), 'closed', 'later calls fail at once');
});

t.test('garbage from the daemon ends the connection with a protocol error', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.on('connectGetHostname', (peer) => void peer.socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
  t.equal(await kindOf(connection.getHostname()), 'protocol');
  daemon.on('connectGetHostname', (peer, call) => peer.reply(call, (w) => w.uint(0xffff_ffff)));
  t.equal(await kindOf(connection.getHostname()), 'protocol', 'a reply that does not decode');
  daemon.on('connectGetHostname', (peer, call) => peer.reply({ ...call, serial: 999 }));
  t.equal(await kindOf(connection.getHostname()), 'protocol', 'a reply to no call');
  daemon.on('connectGetHostname', (peer, call) => {
    peer.reply(call, (w) => {
      w.string('h', 10);
      w.uint(0);
    });
  });
  t.equal(await kindOf(connection.getHostname()), 'protocol', 'a reply with bytes left over');
  t.equal(connection.state, 'connected', 'only the channel of short calls was closed');
});

t.test('a silent daemon is noticed by keepalive, and its own pings are answered', async (t) => {
  const { daemon, connection } = await setup(t, { keepalive: { intervalMs: 10, count: 2 } });
  hold(daemon, 'connectGetHostname');
  daemon.isSilent = true;
  daemon.peers[0]?.keepalive(PING);
  await until(() => daemon.peers[0]?.pongs === 1, 'the ping is answered');
  t.equal(await kindOf(connection.getHostname()), 'keepalive');
  await until(() => connection.state === 'disconnected', 'the control channel is lost as well');
});

t.test('error replies become typed errors with code, name, domain and procedure', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.on('domainLookupByName', (peer, call) => peer.refuse(call, 42, 'no such domain'));
  const error = await failureOf(connection.domainLookupByName('x'));
  t.ok(error instanceof LibvirtError);
  t.match(error, {
    code: 42,
    codeName: 'VIR_ERR_NO_DOMAIN',
    domain: 10,
    domainName: 'VIR_FROM_QEMU',
    level: 2,
  });
  t.match(error, { message: 'no such domain', procedure: 'domainLookupByName' });
  daemon.on('domainLookupByName', (peer, call) => peer.refuse(call, 39, 'unknown procedure: 23'));
  t.ok((await failureOf(connection.domainLookupByName('x'))) instanceof LibvirtUnsupportedError);
  daemon.on('domainLookupByName', (peer, call) => peer.refuse(call, 99_999, 'new'));
  t.match(await failureOf(connection.domainLookupByName('x')), { codeName: 'VIR_ERR_99999' });
});

t.test('a call with wrong arguments writes nothing', async (t) => {
  const { daemon, connection } = await setup(t);
  await connection.getLibVersion();
  const before = daemon.peers.flatMap((peer) => peer.received).length;
  const wrong = [
    () => connection.domainLookupByUUIDString('not a uuid'),
    () => connection.domainLookupByName('x'.repeat(4_194_305)),
    () => connection.call('domainLookupByName', { name: 7 as unknown as string }),
    () =>
      connection.call('domainOpenConsole', { dom: { name: '', uuid: '', id: 0 }, dev_name: null, flags: 0 }),
    () => connection.call('noSuchProcedure' as 'connectGetUri', undefined),
    () => connection.getHostname({ timeoutMs: Number.NaN }),
  ];
  for (const call of wrong) t.ok((await failureOf(call())) instanceof LibvirtUsageError);
  await connection.getLibVersion();
  t.equal(daemon.peers.flatMap((peer) => peer.received).length, before + 1);
});

t.test('a daemon that is there again is connected to again', async (t) => {
  const { daemon, connection } = await setup(t, { reconnect: FAST });
  const states: string[] = [];
  connection.onStateChange((state) => states.push(state));
  await daemon.stop();
  await until(() => connection.state === 'disconnected', 'the loss is noticed');
  t.equal(await kindOf(connection.getLibVersion()), 'closed');
  await daemon.listen();
  await until(() => connection.state === 'connected', 'the connection is there again');
  t.same(states, ['disconnected', 'connected']);
  t.equal(await connection.getLibVersion(), 9_000_000);
});

t.test('close() ends the attempts to reconnect', async (t) => {
  const { daemon, connection } = await setup(t, { reconnect: FAST });
  await daemon.stop();
  await until(() => connection.state === 'disconnected', 'the loss is noticed');
  await connection.close();
  const peersBefore = daemon.peers.length;
  await daemon.listen();
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(daemon.peers.length, peersBefore);
  t.equal(connection.state, 'disconnected');
});
