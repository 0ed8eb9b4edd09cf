/** What comes over the bus is hostile until it is read; what is missing in it ends the link. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { Inbox } from '../../../src/scheduler/relay/lane.ts';
import { decode, encode, ToGateway, ToOwner } from '../../../src/scheduler/relay/messages.ts';
import { readGatewayCommandLine } from '../../../src/scheduler/relay/options.ts';

const LINK = { gateway: randomUUID(), link: randomUUID(), number: 1 };

t.test('a message is read as it was written, with its bytes', async (t) => {
  const head = { kind: 'frame', ...LINK, more: false };
  const { head: read, bytes } = decode<ToOwner>(ToOwner, encode(head, Buffer.from('{"a":"\n"}')));
  t.same(read, head);
  t.equal(bytes.toString(), '{"a":"\n"}');
});

t.test('what is no message is refused', async (t) => {
  for (const wrong of [
    'no head',
    '\n',
    'not json\n',
    '{}\n',
    `${JSON.stringify({ kind: 'frame', ...LINK })}\n`,
    `${JSON.stringify({ kind: 'frame', ...LINK, more: false, also: 1 })}\n`,
    `${JSON.stringify({ kind: 'pong', ...LINK, number: 0 })}\n`,
    `${JSON.stringify({ kind: 'pong', ...LINK, link: 'berth.owner.>' })}\n`,
    `${JSON.stringify({ kind: 'open', ...LINK, proven: { nodeId: LINK.link, serial: 'x' } })}\n`,
    `${JSON.stringify({ kind: 'exec', ...LINK })}\n`,
  ]) {
    t.throws(() => decode(ToOwner, Buffer.from(wrong)), { code: 'INVALID_ARGUMENT' }, wrong.slice(0, 50));
  }
  t.throws(() => decode(ToGateway, encode({ kind: 'closed', ...LINK, code: 1, reason: '' })));
});

t.test('a message that is missing, or comes twice, is noticed', async (t) => {
  const inbox = new Inbox();
  inbox.accept({ number: 1 });
  t.throws(() => inbox.accept({ number: 1 }), { code: 'ILLEGAL_STATE' });
  t.throws(() => inbox.accept({ number: 3 }), { code: 'ILLEGAL_STATE' });
  inbox.accept({ number: 2 });
});

t.test(
  'a frame in parts is whole with the last, also where a character was cut; one too long is refused',
  async (t) => {
    const inbox = new Inbox();
    const bytes = Buffer.from('aü');
    t.equal(inbox.add(bytes.subarray(0, 2), { more: true }), null);
    t.equal(inbox.add(bytes.subarray(2), { more: false }), 'aü');
    const megabytes = Buffer.alloc(5 * 1024 * 1024);
    inbox.add(megabytes, { more: true });
    t.throws(() => inbox.add(megabytes, { more: true }), { code: 'LIMIT_REACHED' });
  },
);

t.test("a gateway's command line names NATS, and keeps tokens out of it", async (t) => {
  const silent = () => undefined;
  const read = (...argv: string[]) => readGatewayCommandLine(['gateway', ...argv], silent);
  t.match(read('--nats-url', 'nats://a:4222', 'tls://b:4222', '--token-file', '/x'), {
    listen: { host: '127.0.0.1', port: 7681 },
    bus: { urls: ['nats://a:4222', 'tls://b:4222'], tokenFile: null },
    tokenFile: '/x',
    tls: null,
  });
  for (const wrong of [
    [],
    ['--nats-url', 'http://a'],
    ['--nats-url', 'nats://user:secret@a:4222'],
    ['--nats-token-file', '/x'],
    ['--nats-url', 'nats://a', '--tls-cert', '/x'],
    ['--nats-url', 'nats://a', 'extra', '--listen', 'nowhere'],
  ]) {
    t.throws(() => read(...wrong), wrong.join(' '));
  }
});
