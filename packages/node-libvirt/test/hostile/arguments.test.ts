/**
 * Callers without types: whatever they give in place of whichever argument of whichever procedure is refused with a
 * LibvirtUsageError that names the call and the place, before a byte goes to the daemon.
 */
import t from 'tap';
import { LibvirtUsageError } from '../../src/errors.ts';
import { PROCEDURES } from '../../src/protocol/schema.gen.ts';
import { Channel } from '../../src/rpc/channel.ts';
import { ARGUMENTS, shapeOf } from '../fuzz/shape.ts';
import { MemoryDaemon } from '../support/memory-daemon.ts';
import { failureOf } from '../support/outcome.ts';
import { badValues } from './bad-values.ts';
import { bytesHeldBy } from './memory.ts';
import { connected, shortPeer } from './setup.ts';

const DOMAIN = { name: 'd', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: 1 };
const MIB = 1_048_576;

/** Takes nothing of what it is told. */
const DEAF = {
  data: () => true,
  hole: () => true,
  ended: () => {},
  finished: () => {},
  failed: () => {},
};

type AnyCall = (name: unknown, args?: unknown, options?: unknown) => Promise<unknown>;

async function openChannel(): Promise<{ daemon: MemoryDaemon; channel: Channel; call: AnyCall }> {
  const daemon = new MemoryDaemon();
  const { signal } = new AbortController();
  const channel = await Channel.connect({ transport: daemon.transport, keepalive: false, signal });
  const call: AnyCall = async (name, args) =>
    /[<>]/.test(PROCEDURES[name as string] ?? '')
      ? channel.openStream(name as string, args, DEAF, {})
      : channel.call(name as string, args, {});
  return { daemon, channel, call };
}

/** What is wrong with how a call was refused; null when nothing is. */
function mistakeIn(error: unknown, name: string, path: string): string | null {
  if (!(error instanceof LibvirtUsageError)) return `${name} ${path}: ${String(error)}`;
  const start = path === '' ? `${name}: ` : `${name}: ${path}`;
  return error.message.startsWith(start)
    ? null
    : `${name} ${path}: the message is ${error.message.slice(0, 200)}`;
}

t.test('each wrong value in each place of the arguments of each procedure is refused by name', async (t) => {
  let refused = 0;
  for (const { name, type } of ARGUMENTS) {
    const { daemon, channel, call } = await openChannel();
    for (const { path, value } of badValues(shapeOf(type))) {
      // a channel carries one stream, and one that was refused counts
      const own = /[<>]/.test(PROCEDURES[name] ?? '') ? await openChannel() : { daemon, channel, call };
      const outcome = await own.call(name, value).then(
        () => new Error('it was sent'),
        (error: unknown) => error,
      );
      const mistake = mistakeIn(outcome, name, path);
      if (mistake !== null) throw new Error(mistake);
      if (own.daemon.received.length > 0) throw new Error(`${name} ${path}: something was sent`);
      refused++;
    }
    channel.close();
  }
  t.ok(refused > 40_000, `${refused} refused in ${ARGUMENTS.length} procedures`);
});

t.test('a message shows where and what, and what a getter has thrown is the cause', async (t) => {
  const { call } = await openChannel();
  const messageOf = async (name: string, args: unknown) => (await failureOf(call(name, args))).message;
  const withUuid = (uuid: unknown) => ({ dom: { ...DOMAIN, uuid }, memory: 1n, flags: 0 });
  t.equal(
    await messageOf('domainSetMemoryFlags', withUuid('no')),
    'domainSetMemoryFlags: dom.uuid: not a UUID: "no"',
  );
  t.equal(
    await messageOf('domainSetMemoryFlags', { dom: DOMAIN, memory: -1, flags: 0 }),
    'domainSetMemoryFlags: memory: expected an integer from 0 to 18446744073709551615, got -1',
  );
  const params = [{ field: 'cpu_shares', type: 'ullong', value: 'many' }];
  t.equal(
    await messageOf('domainSetSchedulerParameters', { dom: DOMAIN, params }),
    'domainSetSchedulerParameters: params[0].cpu_shares: expected an integer from 0 to 18446744073709551615, got "many"',
  );
  const { dom: _, ...noDomain } = withUuid(DOMAIN.uuid);
  t.equal(
    await messageOf('domainSetMemoryFlags', noDomain),
    'domainSetMemoryFlags: dom: expected an object with name, uuid, id, got undefined',
  );
  const mine = new RangeError('mine');
  const domain = {
    get name(): string {
      throw mine;
    },
  };
  t.match(await failureOf(call('domainGetInfo', { dom: domain })), {
    message: 'domainGetInfo: dom.name: cannot be read',
    cause: mine,
  });
});

t.test('nothing of a refused call reaches the daemon, and the connection goes on', async (t) => {
  const session = await connected(t);
  const call = session.connection.call.bind(session.connection) as unknown as AnyCall;
  const peer = await shortPeer(session);
  const before = peer.socket.bytesRead;
  const refused = [
    call('domainGetInfo', { dom: { ...DOMAIN, uuid: 'x' } }),
    call('domainGetInfo', undefined),
    call('domainDefineXmlFlags', { xml: 'x'.repeat(4 * MIB + 1), flags: 0 }),
    call('domainOpenConsole', { dom: DOMAIN, dev_name: null, flags: 0 }),
  ];
  for (const one of refused) t.match(await failureOf(one), { name: 'LibvirtUsageError' });
  await session.connection.getLibVersion();
  t.equal(peer.received.at(-1)?.procedure, 157);
  t.equal(peer.socket.bytesRead - before, 28, 'the only call that came is the one that is right');
});

t.test('what is no name of a procedure is refused', async (t) => {
  const { connection } = await connected(t);
  const call = connection.call.bind(connection) as unknown as AnyCall;
  const open = connection.openStream.bind(connection) as unknown as AnyCall;
  const names = ['constructor', '__proto__', 'hasOwnProperty', 'toString', '', 'domainGetinfo', 7, null];
  for (const name of [
    ...names,
    undefined,
    {},
    [],
    ['domainGetInfo'],
    Symbol('domainGetInfo'),
    Object.create(null),
  ]) {
    t.match(await failureOf(call(name)), { name: 'LibvirtUsageError' });
    t.match(await failureOf(open(name)), { name: 'LibvirtUsageError' });
  }
});

t.test('a list that changes while it is read is sent as it was counted', async (t) => {
  const { daemon, call } = await openChannel();
  const growing: unknown[] = [];
  const domain = Object.defineProperty({ ...DOMAIN }, 'name', {
    get: () => {
      growing.push(DOMAIN);
      return 'd';
    },
  });
  growing.push(domain, domain);
  void call('connectGetAllDomainStats', { doms: growing, stats: 0, flags: 0 });
  const count = (at: number) => daemon.received[at]?.body.readUInt32BE(0);
  t.equal(count(0), 2);
  t.equal(daemon.received[0]?.body.length, 4 + 2 * (8 + 16 + 4) + 8);
  const lying = new Proxy([DOMAIN], { get: (list, key) => (key === 'length' ? 7 : Reflect.get(list, key)) });
  t.match(await failureOf(call('connectGetAllDomainStats', { doms: lying, stats: 0, flags: 0 })), {
    message: /doms\[1\]: expected an object/,
  });
});

t.test('arguments over 32 MiB are refused before they fill the memory', async (t) => {
  const { daemon, call } = await openChannel();
  const domain = { ...DOMAIN, name: Buffer.alloc(4 * MIB, 'x').toString() };
  const args = { doms: new Array(16_384).fill(domain), stats: 0, flags: 0 };
  const held = await bytesHeldBy(async () => {
    const error = await failureOf(call('connectGetAllDomainStats', args));
    t.match(error, { name: 'LibvirtUsageError', message: /doms\[7\]\.name: over 33554436 bytes/ });
    return daemon;
  });
  t.ok(held < MIB, `${held} bytes are held`);
  t.same(daemon.received, []);
});
