/** What a session sends together leaves together. */
import { Writable } from 'node:stream';
import t from 'tap';
import type { WebSocket } from 'ws';
import { Channel } from '../../../src/agent/link/channel.ts';

/** A WebSocket that frames nothing, on a stream that keeps what each write had. */
function channelOf() {
  const writes: string[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write: (chunk, _encoding, done) => {
      writes.push(String(chunk));
      done();
    },
    writev: (chunks, done) => {
      writes.push(chunks.map(({ chunk }) => String(chunk)).join(' '));
      done();
    },
  });
  const socket = {
    OPEN: 1,
    readyState: 1,
    bufferedAmount: 0,
    isPaused: false,
    once: () => undefined,
    send: (text: string, sent: () => void) => void stream.write(text, sent),
    ping: () => void stream.write('ping'),
  };
  return { writes, stream, channel: new Channel(socket as unknown as WebSocket, stream) };
}

t.test('a message and a ping that are sent together are one write', async (t) => {
  const { writes, channel } = channelOf();
  channel.together(() => {
    channel.sendText('heartbeat');
    channel.ping();
  });
  t.same(writes, ['heartbeat ping']);
});

t.test('what was begun together leaves, whatever goes wrong after it', async (t) => {
  const { writes, stream, channel } = channelOf();
  t.throws(
    () =>
      channel.together(() => {
        channel.sendText('heartbeat');
        throw new Error('no inventory');
      }),
    /no inventory/,
  );
  t.same(writes, ['heartbeat']);
  t.equal(stream.writableCorked, 0);
});
