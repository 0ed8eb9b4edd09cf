/** Daemons that send more events than anybody can take, or ones that nobody asked for. */
import t from 'tap';
import { PROGRAMS } from '../../src/protocol/schema.gen.ts';
import { MessageType } from '../../src/rpc/framing.ts';
import { lifecycleFrame } from '../support/fake-daemon.ts';
import { until } from '../support/until.ts';
import { bytesHeldBy } from './memory.ts';
import { connected, rawFrame, words, xdrString } from './setup.ts';

const FLOOD = 100_000;
const BUFFER_MAX = 100;

/** What FakeDaemon gives as the number of every registration. */
const CALLBACK = 3;

/** A buffer of 100 events takes some 100 kB, and the flood as a whole would take 100 MB. */
const HELD_MAX_BYTES = 5_000_000;

const UUID_BYTES = Buffer.alloc(16, 0xab);

t.test(
  'of a flood of 100,000 events the buffer keeps the first, and tells how many are missing',
  async (t) => {
    const { daemon, connection } = await connected(t);
    const events = await connection.events('domain', 'lifecycle', { bufferMax: BUFFER_MAX });
    const frames = Buffer.concat(Array.from({ length: 1_000 }, () => lifecycleFrame(CALLBACK, 'flooded')));
    const peer = daemon.peers[0]!;
    const held = await bytesHeldBy(async () => {
      for (let sent = 0; sent < FLOOD; sent += 1_000) peer.socket.write(frames);
      await until(() => peer.socket.writableLength === 0, 'the flood is over');
      await connection.call('connectGetLibVersion', undefined, { role: 'control' });
      return events;
    });
    t.ok(held < HELD_MAX_BYTES, `${held} bytes are held`);
    const got = [];
    for await (const event of events) {
      got.push(event);
      if (event.type === 'overflow') break;
    }
    t.equal(got.length, BUFFER_MAX + 1);
    t.same(got.at(-1), { type: 'overflow', dropped: FLOOD - BUFFER_MAX });
  },
);

t.test('events that nobody registered are not delivered, and end nothing', async (t) => {
  const { daemon, connection } = await connected(t);
  const heard: unknown[] = [];
  await connection.onEvent('domain', 'lifecycle', (event) => heard.push(event));
  const { socket } = daemon.peers[0]!;
  const message = { program: PROGRAMS.remote, type: MessageType.message, serial: 0, status: 0 };
  socket.write(lifecycleFrame(-7, 'of another registration'));
  socket.write(
    rawFrame({ ...message, procedure: 9_999 }, Buffer.from('a message that is newer than we are')),
  );
  socket.write(rawFrame({ ...message, program: 0x1234, procedure: 318 }, words(1)));
  socket.write(
    rawFrame(
      { ...message, procedure: 370 },
      Buffer.concat([words(CALLBACK), xdrString('pool'), UUID_BYTES, words(0, 0)]),
    ),
  );
  socket.write(lifecycleFrame(CALLBACK, 'of this one'));
  await until(() => heard.length === 1, 'the event that was asked for has come');
  t.match(heard, [{ family: 'domain', kind: 'lifecycle', domain: { name: 'of this one' } }]);
  t.equal(connection.state, 'connected');
});

t.test(
  'events without end before the reply to their registration are dropped, and a gap says so',
  async (t) => {
    const { daemon, connection } = await connected(t);
    const gaps: unknown[] = [];
    connection.onGap((gap) => gaps.push(gap));
    daemon.on('connectDomainEventCallbackRegisterAny', (peer, call) => {
      for (let sent = 0; sent < FLOOD; sent += 1_000)
        peer.socket.write(
          Buffer.concat(Array.from({ length: 1_000 }, () => lifecycleFrame(CALLBACK, 'early'))),
        );
      peer.reply(call, (w) => w.int(CALLBACK));
    });
    let heard = 0;
    const held = await bytesHeldBy(async () => {
      await connection.onEvent('domain', 'lifecycle', () => heard++);
      return connection;
    });
    t.ok(heard > 0 && heard < FLOOD, `${heard} events were kept until the reply came`);
    t.match(gaps, [{ cause: { kind: 'limit' } }]);
    t.ok(held < HELD_MAX_BYTES, `${held} bytes are held`);
  },
);

t.test('an event whose parameters repeat a name as often as they like is one event', async (t) => {
  const { daemon, connection } = await connected(t);
  const heard: { params: Record<string, unknown> }[] = [];
  await connection.onEvent('domain', 'tunable', (event) => heard.push(event));
  const param = Buffer.concat([xdrString('__proto__'), words(1, 5)]);
  const body = Buffer.concat([words(CALLBACK), xdrString('d'), UUID_BYTES, words(1, 3), param, param, param]);
  const header = {
    program: PROGRAMS.remote,
    procedure: 346,
    type: MessageType.message,
    serial: 0,
    status: 0,
  };
  daemon.peers[0]!.socket.write(rawFrame(header, body));
  await until(() => heard.length === 1, 'the event has come');
  t.same(Object.entries(heard[0]?.params ?? {}), [['__proto__', 5]]);
});

t.test('an event that is cut short ends the connection', async (t) => {
  const { daemon, connection } = await connected(t);
  await connection.onEvent('domain', 'lifecycle', () => {});
  const states: [string, string | undefined][] = [];
  connection.onStateChange((state, cause) => states.push([state, cause?.kind]));
  const header = {
    program: PROGRAMS.remote,
    procedure: 318,
    type: MessageType.message,
    serial: 0,
    status: 0,
  };
  daemon.peers[0]!.socket.write(rawFrame(header, words(CALLBACK, 0xffff_ffff)));
  await until(() => states.length > 0, 'the state has changed');
  t.same(states, [['disconnected', 'protocol']]);
});
