/** Memory that sockets read into: what is read stays as it was, however much follows, unless nobody keeps it. */
import { once } from 'node:events';
import net from 'node:net';
import t, { type Test } from 'tap';
import { Random } from '../fuzz/random.ts';
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

t.test('room is before what is in use when there is more of it than behind', (t) => {
  const blocks = new ReadBlocks();
  const first = read(blocks, 40_000);
  const second = blocks.room();
  blocks.reuse();
  blocks.used(20_000);
  const third = blocks.room();
  t.equal(third.buffer, first.buffer);
  t.equal(third.byteOffset, first.byteOffset);
  t.equal(third.length, second.byteOffset - first.byteOffset, 'it ends where that begins');
  blocks.used(100);
  t.not(blocks.room().buffer, first.buffer, 'with something in use on both sides another block is begun');
  t.end();
});

t.test('no room is ever given that is in use', (t) => {
  const random = new Random(7);
  const blocks = new ReadBlocks();
  let kept: Buffer[] = [];
  for (let reads = 0; reads < 20_000; reads++) {
    const room = blocks.room();
    if (random.below(3) === 0) {
      blocks.reuse();
      kept = [];
    }
    const overlap = kept.find((piece) => overlaps(piece, room));
    if (overlap !== undefined) t.fail(`read ${reads} overwrites what is in use`);
    const bytes = 1 + random.below(random.below(4) === 0 ? room.length : Math.min(room.length, 5_000));
    blocks.used(bytes);
    kept.push(room.subarray(0, bytes));
  }
  t.end();
});

function overlaps(a: Buffer, b: Buffer): boolean {
  const [first, second] = a.byteOffset <= b.byteOffset ? [a, b] : [b, a];
  return a.buffer === b.buffer && first.byteOffset + first.length > second.byteOffset;
}

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

t.test('a socket that is paused reads nothing more, and goes on when it is resumed', async (t) => {
  const { reader, writer } = await pair(t);
  let bytes = 0;
  reader.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    reader.pause();
  });
  writer.write(Buffer.alloc(1_000));
  await once(reader, 'pause');
  for (let turns = 0; turns < 20; turns++) {
    await new Promise((resolve) => writer.write(Buffer.alloc(1_000), resolve));
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(reader.bytesRead, bytes, 'all that was read has been given');
  }
  writer.end();
  reader.removeAllListeners('data').on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  reader.resume();
  await once(reader, 'end');
  t.equal(bytes, 21_000);
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
