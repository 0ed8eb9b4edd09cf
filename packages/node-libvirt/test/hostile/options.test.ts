/** Callers without types, again: options, listeners, and the methods of the objects. */
import t from 'tap';
import { connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import { LibvirtError, LibvirtTransportError, LibvirtUsageError } from '../../src/errors.ts';
import { Bodies } from '../fuzz/bodies.ts';
import { rightReply } from '../fuzz/answers.ts';
import { Random } from '../fuzz/random.ts';
import { failureOf } from '../support/outcome.ts';
import { connected } from './setup.ts';

const DOMAIN = { name: 'd', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: 1 };

/** What takes the place of every argument at once. */
const JUNK: readonly unknown[] = [
  undefined,
  null,
  true,
  -1,
  NaN,
  7n,
  'text',
  Symbol('symbol'),
  [],
  {},
  Object.create(null),
  () => 1,
];

/** More than any method has. */
const ARGUMENTS_MAX = 12;

/** Not for callers, or what would end the test. */
const NOT_CALLED = ['constructor', 'close', 'openSession'];

type Loose = (...args: unknown[]) => Promise<unknown>;

function loose(
  connection: Connection,
  name: 'call' | 'openStream' | 'onEvent' | 'events' | 'getVersion',
): Loose {
  return (connection[name] as unknown as Loose).bind(connection);
}

t.test('options of a call that are none are refused, whatever is called', async (t) => {
  const { daemon, connection } = await connected(t);
  const wrong: [unknown, RegExp][] = [
    [null, /options must be an object, got null/],
    ['fast', /options must be an object, got "fast"/],
    [() => {}, /options must be an object, got function/],
    [{ timeoutMs: 'abc' }, /timeoutMs must be a number from 0, got "abc"/],
    [{ timeoutMs: -1 }, /timeoutMs .* got -1/],
    [{ timeoutMs: NaN }, /timeoutMs .* got NaN/],
    [{ timeoutMs: 5n }, /timeoutMs .* got 5/],
    [{ timeoutMs: Symbol('soon') }, /timeoutMs .* got symbol/],
    [{ signal: {} }, /signal must be an AbortSignal, got object/],
    [{ signal: null }, /signal must be an AbortSignal, got null/],
    [{ signal: new AbortController() }, /signal must be an AbortSignal, got object/],
  ];
  const before = daemon.peers[0]!.received.length;
  for (const [options, message] of wrong) {
    const args = { dom: DOMAIN, dev_name: null, flags: 0 };
    const calls = [
      loose(connection, 'call')('connectGetVersion', undefined, options),
      loose(connection, 'getVersion')(options),
      loose(connection, 'openStream')('domainOpenConsole', args, options),
    ];
    if (options !== null) calls.push(loose(connection, 'onEvent')('domain', 'lifecycle', () => {}, options));
    for (const call of calls) t.match(await failureOf(call), { name: 'LibvirtUsageError', message });
  }
  for (const role of ['fast', '__proto__', 'constructor', 7, Symbol('short')])
    t.match(await failureOf(loose(connection, 'call')('connectGetVersion', undefined, { role })), {
      message: /role must be one of control, short, long/,
    });
  t.equal(daemon.peers.length, 1, 'no socket was opened for any of them');
  t.equal(daemon.peers[0]!.received.length, before, 'and nothing was sent');
});

t.test('events that do not exist, and listeners that are none, are refused', async (t) => {
  const { connection } = await connected(t);
  const on = loose(connection, 'onEvent');
  for (const family of ['', 'constructor', '__proto__', 'domains', 7, null, undefined, Symbol('domain'), {}])
    t.match(await failureOf(on(family, 'lifecycle', () => {})), { name: 'LibvirtUsageError' });
  for (const kind of [
    '',
    'constructor',
    '__proto__',
    'lifecycles',
    7,
    null,
    undefined,
    Symbol('lifecycle'),
    {},
  ])
    t.match(await failureOf(on('domain', kind, () => {})), { name: 'LibvirtUsageError' });
  for (const listener of [undefined, null, 'text', {}])
    t.match(await failureOf(on('domain', 'lifecycle', listener)), { name: 'LibvirtUsageError' });
  for (const bufferMax of [0, -1, 1.5, NaN, Infinity, '10', null])
    t.match(await failureOf(loose(connection, 'events')('domain', 'lifecycle', { bufferMax })), {
      name: 'LibvirtUsageError',
    });
  for (const domain of [null, 7, 'name', {}, { uuid: 'x' }, { ...DOMAIN, uuid: 7 }])
    t.match(await failureOf(on('domain', 'lifecycle', () => {}, { domain })), { name: 'LibvirtUsageError' });
  for (const listener of [undefined, null, 'text', {}] as never[]) {
    t.throws(() => connection.onStateChange(listener), LibvirtUsageError);
    t.throws(() => connection.onGap(listener), LibvirtUsageError);
  }
});

t.test('options of connect that are none are refused before a socket is opened', async (t) => {
  const { daemon } = await connected(t);
  const wrong: unknown[] = [
    null,
    'text',
    7,
    { callTimeoutMs: 'abc' },
    { longCallTimeoutMs: -1 },
    { signal: {} },
    { readOnly: 'no' },
    { keepalive: true },
    { keepalive: 'never' },
    { keepalive: { intervalMs: 'x' } },
    { keepalive: { intervalMs: 0 } },
    { keepalive: { count: NaN } },
    { reconnect: true },
    { reconnect: { initialMs: '1' } },
    { reconnect: { maxMs: -5 } },
    { random: 4 },
    { socketPath: 7 },
    { socketPath: '' },
    { socketPath: 'a\0b' },
    { socketPath: '/x'.repeat(100) },
    { auth: 7 },
  ];
  for (const options of wrong) {
    const whole =
      typeof options === 'object' && options !== null
        ? { socketPath: daemon.socketPath, ...options }
        : options;
    const error = await failureOf(connect('test:///default', whole as never));
    t.match(error, { name: 'LibvirtUsageError' }, JSON.stringify(options));
  }
  for (const uri of [undefined, null, 7, {}, Symbol('uri'), '', 'test', 'test:///a\0b', 'x'.repeat(100_000)])
    t.match(await failureOf(connect(uri as never)), { name: 'LibvirtUsageError' });
  t.equal(daemon.peers.length, 1, 'no socket was opened for any of them');
});

t.test('every method of every object takes any junk without another error than its own kinds', async (t) => {
  const { daemon, connection } = await connected(t, { callTimeoutMs: 5_000, longCallTimeoutMs: 5_000 });
  const bodies = new Bodies(1);
  const random = new Random(1);
  daemon.onEvery = (peer, call) => peer.socket.write(rightReply(call, bodies, random));
  let calls = 0;
  for (const object of objectsOf(connection)) {
    for (const [name, method] of methodsOf(object)) {
      for (const junk of JUNK) {
        const error = await outcomeOf(() => method.apply(object, Array(ARGUMENTS_MAX).fill(junk)));
        if (error !== null && !isTyped(error))
          t.fail(`${object.constructor.name}.${name}(${String(junk && typeof junk)}): ${String(error)}`);
        calls++;
      }
    }
  }
  t.ok(calls > 3_000, `${calls} calls`);
});

function objectsOf(connection: Connection): object[] {
  const { objects } = connection;
  const named = { name: 'n', uuid: DOMAIN.uuid };
  return [
    connection,
    objects.domain(DOMAIN),
    objects.domainSnapshot({ name: 's', dom: DOMAIN }),
    objects.domainCheckpoint({ name: 'c', dom: DOMAIN }),
    objects.storagePool(named),
    objects.storageVolume({ pool: 'p', name: 'v', key: 'k' }),
    objects.network(named),
    objects.networkPort({ net: named, uuid: DOMAIN.uuid }),
    objects.interface({ name: 'i', mac: '' }),
    objects.nodeDevice({ name: 'd' }),
    objects.secret({ uuid: DOMAIN.uuid, usageType: 0, usageID: '' }),
    objects.nwFilter(named),
    objects.nwFilterBinding({ portdev: 'p', filtername: 'f' }),
  ];
}

function methodsOf(object: object): [string, Loose][] {
  const methods: [string, Loose][] = [];
  for (
    let proto = Object.getPrototypeOf(object);
    proto !== Object.prototype;
    proto = Object.getPrototypeOf(proto)
  )
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto)))
      if (typeof value === 'function' && !NOT_CALLED.includes(name)) methods.push([name, value as Loose]);
  return methods;
}

async function outcomeOf(action: () => unknown): Promise<unknown> {
  try {
    const result = await action();
    destroy(result);
    return null;
  } catch (error) {
    return error;
  }
}

/** Streams and queues that junk has opened. */
function destroy(result: unknown): void {
  if (typeof result !== 'object' || result === null) return;
  const { stream } = result as { stream?: { destroy?(): void } };
  for (const one of [result as { destroy?(): void }, stream]) one?.destroy?.();
}

function isTyped(error: unknown): boolean {
  return (
    error instanceof LibvirtUsageError ||
    error instanceof LibvirtError ||
    error instanceof LibvirtTransportError
  );
}
