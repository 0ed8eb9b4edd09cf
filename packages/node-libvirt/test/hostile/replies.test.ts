/** Daemons whose replies are not what was asked for, or hold what no libvirt would say. */
import t, { type Test } from 'tap';
import { LibvirtError } from '../../src/errors.ts';
import { PROCEDURES, PROGRAMS } from '../../src/protocol/schema.gen.ts';
import { type Frame, MessageType } from '../../src/rpc/framing.ts';
import { codecOf } from '../../src/xdr/codec.ts';
import { XdrError, XdrReader } from '../../src/xdr/reader.ts';
import { REPLIES } from '../fuzz/shape.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { bytesHeldBy } from './memory.ts';
import { type Connected, connected, rawFrame, shortPeer, words, xdrString } from './setup.ts';

const MIB = 1_048_576;
const UUID_BYTES = Buffer.alloc(16, 0xab);
const NULL = words(0);

/** Bytes that a decoded reply may take for each byte that came. A parameter of 12 bytes becomes an object of 56. */
const HELD_PER_BYTE_MAX = 16;

function replyTo(call: Frame, body: Uint8Array = Buffer.alloc(0)): Buffer {
  return rawFrame({ ...call, type: MessageType.reply, status: 0 }, body);
}

function refusalOf(call: Frame, body: Uint8Array): Buffer {
  return rawFrame({ ...call, type: MessageType.reply, status: 1 }, body);
}

/** virNetMessageError, in its order: code, domain, message, level, domain object, three strings, two numbers, network. */
function errorBody(code: number, domain: number, message: Uint8Array, level: number): Buffer {
  return Buffer.concat([
    words(code, domain),
    message,
    words(level),
    NULL,
    NULL,
    NULL,
    NULL,
    words(0, 0),
    NULL,
  ]);
}

/** What a call ends with when the daemon answers it with these bytes. */
async function answered(t: Test, make: (call: Frame) => Buffer): Promise<Error> {
  const { daemon, connection } = await connected(t);
  daemon.on('connectGetHostname', (peer, call) => peer.socket.write(make(call)));
  return failureOf(connection.getHostname());
}

t.test('a reply that is not the one to the call ends the connection', async (t) => {
  const other = Number(PROCEDURES['connectGetType']?.split(' ')[2]);
  const host = xdrString('host');
  const lies: [string, (call: Frame) => Buffer][] = [
    ['a serial that was never used', (call) => replyTo({ ...call, serial: call.serial + 1_000 }, host)],
    ['the serial of an answered call', (call) => replyTo({ ...call, serial: call.serial - 1 }, host)],
    ['another procedure', (call) => replyTo({ ...call, procedure: other }, host)],
    ['another program', (call) => replyTo({ ...call, program: PROGRAMS.qemu }, host)],
    ['a status that only streams have', (call) => rawFrame({ ...call, type: 1, status: 2 }, host)],
    ['bytes after the end', (call) => replyTo(call, Buffer.concat([host, NULL]))],
    ['nothing in it', (call) => replyTo(call)],
  ];
  for (const [what, make] of lies)
    t.match(await answered(t, make), { kind: 'protocol', cause: XdrError }, what);
});

t.test('a second reply to a call ends the connection, and the call keeps its first one', async (t) => {
  const session = await connected(t);
  const peer = await shortPeer(session);
  session.daemon.on('connectGetHostname', (_peer, call) =>
    peer.socket.write(Buffer.concat([replyTo(call, xdrString('one')), replyTo(call, xdrString('two'))])),
  );
  t.equal(await session.connection.getHostname(), 'one');
  await until(() => peer.socket.destroyed, 'the socket is closed');
});

t.test('a lie on one socket fails each call on it once, and the next call has a new one', async (t) => {
  const { daemon, connection } = await connected(t);
  daemon.on('connectGetHostname', (peer) => peer.socket.write(words(7)));
  daemon.on('connectGetType', () => {});
  let settled = 0;
  const calls = Array.from({ length: 3 }, () =>
    kindOf(connection.getType().finally(() => settled++)).then((kind) => t.equal(kind, 'protocol')),
  );
  t.equal(await kindOf(connection.getHostname()), 'protocol');
  await Promise.all(calls);
  t.equal(settled, 3);
  t.equal(await connection.getLibVersion(), 9_000_000);
});

t.test(
  'an error without a message, of unknown numbers, is still an error that says what it can',
  async (t) => {
    const error = await answered(t, (call) => refusalOf(call, errorBody(99_999, -5, NULL, 77)));
    t.ok(error instanceof LibvirtError);
    t.match(error, {
      code: 99_999,
      codeName: 'VIR_ERR_99999',
      domain: -5,
      domainName: 'VIR_FROM_-5',
      level: 77,
      procedure: 'connectGetHostname',
      message: 'connectGetHostname failed with code 99999',
    });
  },
);

t.test('an error message may have 4 MiB, and not a byte more', async (t) => {
  const limit = 4 * MIB;
  const withMessage = (bytes: number) => (call: Frame) =>
    refusalOf(call, errorBody(1, 1, Buffer.concat([words(1), xdrString('x'.repeat(bytes))]), 2));
  const long = await answered(t, withMessage(limit));
  t.ok(long instanceof LibvirtError && long.message.length === limit);
  t.match(await answered(t, withMessage(limit + 1)), { kind: 'protocol' });
});

t.test('a refusal that is cut short ends the connection', async (t) => {
  t.match(await answered(t, (call) => refusalOf(call, words(1, 1))), { kind: 'protocol' });
});

t.test('text that is no UTF-8 becomes U+FFFD, and a NUL stays what it is', async (t) => {
  const { daemon, connection } = await connected(t);
  const texts = [Buffer.from('a\xff\xc0b', 'latin1'), Buffer.from('a\0b')];
  daemon.on('connectGetHostname', (peer, call) =>
    peer.socket.write(replyTo(call, xdrString(texts.shift()!))),
  );
  t.equal(await connection.getHostname(), 'a\ufffd\ufffdb');
  t.equal(await connection.getHostname(), 'a\0b');
});

t.test('a parameter named __proto__ is a value like any other', async (t) => {
  const { daemon, connection } = await connected(t);
  const names = ['__proto__', 'constructor', 'toString', '__proto__'];
  const params = names.flatMap((name, index) => [xdrString(name), words(1, index)]);
  const domain = Buffer.concat([xdrString('d'), UUID_BYTES, words(1)]);
  daemon.on('connectGetAllDomainStats', (peer, call) =>
    peer.socket.write(replyTo(call, Buffer.concat([words(1), domain, words(names.length), ...params]))),
  );
  const [record] = await connection.getAllDomainStats();
  const stats = record?.stats ?? {};
  t.same(Object.entries(stats), [
    ['__proto__', 3],
    ['constructor', 1],
    ['toString', 2],
  ]);
  t.equal(Object.getPrototypeOf(stats), Object.prototype);
  t.equal(({} as Record<string, unknown>)['3'], undefined);
});

t.test('a reply with descriptors is a typed error, and the connection goes on', async (t) => {
  const session = await connected(t);
  const peer = await shortPeer(session);
  const type = MessageType.replyWithDescriptors;
  session.daemon.on('connectGetHostname', (_peer, call) =>
    peer.socket.write(Buffer.concat([rawFrame({ ...call, type }, words(2)), Buffer.alloc(2)])),
  );
  t.equal(await kindOf(session.connection.getHostname()), 'descriptors');
  t.equal(await session.connection.getLibVersion(), 9_000_000);
  session.daemon.on('connectGetHostname', (_peer, call) =>
    peer.socket.write(rawFrame({ ...call, type }, words(33))),
  );
  t.equal(await kindOf(session.connection.getHostname()), 'protocol');
});

t.test('a count that the bytes cannot hold is refused for every list in every reply', (t) => {
  let refused = 0;
  for (const { type } of REPLIES) {
    for (const count of [1_000_000_000, 0xffff_ffff]) {
      const body = Buffer.alloc(400);
      for (let at = 0; at < body.length; at += 4) body.writeUInt32BE(count, at);
      try {
        codecOf(type).decode(new XdrReader(body));
      } catch (error) {
        if (!(error instanceof XdrError)) throw error;
        refused++;
      }
    }
  }
  t.ok(refused > 200, `${refused} refused`);
  t.end();
});

t.test('a reply takes memory in proportion to its bytes, whatever it is made of', async (t) => {
  const least = Buffer.concat([xdrString(''), words(1, 7)]);
  const count = 262_144;
  const domain = Buffer.concat([xdrString(''), UUID_BYTES, words(1)]);
  const record = Buffer.concat([domain, words(count), ...Array<Buffer>(count).fill(least)]);
  const body = Buffer.concat([words(1), record]);
  const codec = codecOf('remote_connect_get_all_domain_stats_ret');
  const held = await bytesHeldBy(() => codec.decode(new XdrReader(body)));
  t.ok(held < HELD_PER_BYTE_MAX * body.length, `${held} bytes are held for ${body.length}`);
});

t.test('a long reply that goes wrong at its end fails its call, and the others on the socket', async (t) => {
  const session: Connected = await connected(t);
  const peer = await shortPeer(session);
  const names = Array.from({ length: 10_000 }, (_, index) => xdrString(`name-of-a-domain-${index}`));
  session.daemon.on('connectListDefinedDomains', (_peer, call) =>
    peer.socket.write(replyTo(call, Buffer.concat([words(names.length + 1), ...names, words(0x7fff_ffff)]))),
  );
  session.daemon.on('connectGetType', () => {});
  const waiting = kindOf(session.connection.getType());
  const long = session.connection.call('connectListDefinedDomains', { maxnames: 16_384 });
  t.same(await Promise.all([kindOf(long), waiting]), ['protocol', 'protocol']);
});
