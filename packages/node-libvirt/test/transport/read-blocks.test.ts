/** Memory that sockets read into: what is read stays as it was, however much follows, unless nobody keeps it. */
import { once } from 'node:events';
import net from 'node:net';
import t, { type Test } from 'tap';
import { ReadBlocks, readingIntoBlocks, reuseMemoryOf } from '../../src/transport/read-blocks.ts';

const SMALL = 65_536;
const LARGE = 524_288;

/** What a read of so many bytes brings. */
function read(blocks: ReadBlocks, bytes: number): Buffer {
  const room = blocks.room();
  blocks.used(bytes);
  return room.subarray(0, bytes);
}

t.test('reads follow each other in one block, until too little room is left', (t) => {
  const blocks = new ReadBlocks();
  const [first, second] = [read(blocks, 100), read(blocks, SMALL - 100 - SMALL / 8 + 1)];
  t.equal(second.buffer, first.buffer);
  t.equal(second.byteOffset, first.byteOffset + 100);
  const third = read(blocks, 1);
  t.not(third.buffer, first.buffer);
  t.equal(third.buffer.byteLength, SMALL, 'a socket that brings little keeps to small blocks');
  t.end();
});

t.test('a read that fills the room is followed by a large block', (t) => {
  const blocks = new ReadBlocks();
  read(blocks, SMALL);
  t.equal(blocks.room().length, LARGE);
  t.end();
});

t.test('memory that is used again is not the room that has been given already', (t) => {
  const blocks = new ReadBlocks();
  const first = read(blocks, 100);
  const given = blocks.room();
  blocks.reuse();
  blocks.used(50);
  t.equal(given.byteOffset, first.byteOffset + 100);
  t.equal(blocks.room().byteOffset, first.byteOffset + 150, 'what it brings is in use');
  blocks.reuse();
  t.equal(blocks.room().byteOffset, first.byteOffset);
  t.end();
});

/** Both ends of a connection of which one reads into blocks. */
async function pair(t: Test): Promise<{ reader: net.Socket; writer: net.Socket }> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const accepted = once(server, 'connection');
  const reader = readingIntoBlocks((onread) => net.createConnection({ host: '127.0.0.1', port, onread }));
  const [writer] = (await accepted) as [net.Socket];
  t.teardown(() => {
    reader.destroy();
    server.close();
  });
  return { reader, writer };
}

t.test('a socket that reads into blocks gives all that comes, in order, with back-pressure', async (t) => {
  const { reader, writer } = await pair(t);
  const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => index % 251));
  writer.end(bytes);
  const chunks: Buffer[] = [];
  for await (const chunk of reader) {
    chunks.push(chunk);
    if (chunks.length % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  t.ok(Buffer.concat(chunks).equals(bytes), 'what was kept is what came');
  t.ok(reader.destroyed, 'and the end is an end');
});

t.test('a reader that keeps nothing is served from one block of each size', async (t) => {
  const { reader, writer } = await pair(t);
  writer.end(Buffer.alloc(20_000_000, 'x'));
  const blocks = new Set<ArrayBufferLike>();
  let bytes = 0;
  reader.on('data', (chunk: Buffer) => {
    blocks.add(chunk.buffer);
    bytes += chunk.length;
    reuseMemoryOf(reader);
  });
  await once(reader, 'end');
  t.equal(bytes, 20_000_000);
  t.ok(blocks.size <= 2, `${blocks.size} blocks`);
});
