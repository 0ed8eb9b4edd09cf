/** Servers of disks: one that answers as it likes, and those that lie. */
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { NbdClient } from '../../../src/drivers/qcow2/nbd-client.ts';
import { extentsOfDisk } from '../../../src/drivers/qcow2/nbd-extents.ts';
import { makeFolder, MIB, u32, u64 } from './fixtures.ts';

const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]);
const SIZE_BYTES = 4 * MIB;
const OPTION_BYTES = 16;
const REQUEST_BYTES = 28;

interface Request {
  type: number;
  handle: Buffer;
  offset: number;
  length: number;
}

interface Script {
  greeting?: Buffer;
  /** What is answered to an option, by its code. @default as an honest server does */
  option?: (code: number) => Buffer[] | undefined;
  answer?: (request: Request, socket: Socket) => Buffer[];
}

function optionReply(code: number, type: number, data = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u64(0x3e889045565a9n), u32(code), u32(type), u32(data.length), data]);
}

function honest(code: number): Buffer[] {
  const size = Buffer.concat([Buffer.from([0, 0]), u64(BigInt(SIZE_BYTES)), Buffer.from([0, 1])]);
  const before =
    { 7: [optionReply(code, 3, size)], 10: [optionReply(code, 4, Buffer.from('0000name'))] }[code] ?? [];
  return [...before, optionReply(code, 1)];
}

function chunk({ handle }: { handle: Buffer }, type: number, data: Buffer, flags = 1): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(0x668e33ef);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(type, 6);
  return Buffer.concat([head, handle, u32(data.length), data]);
}

const data = (request: Request, offset: number, bytes: Buffer, flags = 1) =>
  chunk(request, 1, Buffer.concat([u64(BigInt(offset)), bytes]), flags);
const hole = (request: Request, offset: number, length: number, flags = 1) =>
  chunk(request, 2, Buffer.concat([u64(BigInt(offset)), u32(length)]), flags);
const status = (request: Request, ...extents: [number, number][]) =>
  chunk(
    request,
    5,
    Buffer.concat([u32(0), ...extents.flatMap(([length, flags]) => [u32(length), u32(flags)])]),
  );
const simple = ({ handle }: { handle: Buffer }, error: number) =>
  Buffer.concat([u32(0x67446698), u32(error), handle]);

/** Listens as the script says; answers the path of its socket. */
async function serve(t: Test, { greeting = GREETING, option, answer = () => [] }: Script): Promise<string> {
  const path = join(await makeFolder(t), 'disk');
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
    socket.write(greeting);
    let [rest, begun, going] = [Buffer.alloc(0), false, false];
    socket.on('data', (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      if (!begun && rest.length >= 4) [begun, rest] = [true, rest.subarray(4)];
      while (begun && !going && rest.length >= OPTION_BYTES) {
        const [code, length] = [rest.readUInt32BE(8), rest.readUInt32BE(12)];
        rest = rest.subarray(OPTION_BYTES + length);
        for (const reply of option?.(code) ?? honest(code)) socket.write(reply);
        going = code === 7;
      }
      while (going && rest.length >= REQUEST_BYTES) {
        const request = {
          type: rest.readUInt16BE(6),
          handle: Buffer.from(rest.subarray(8, 16)),
          offset: Number(rest.readBigUInt64BE(16)),
          length: rest.readUInt32BE(24),
        };
        const payload = request.type === 1 ? request.length : 0;
        if (rest.length < REQUEST_BYTES + payload) break;
        rest = rest.subarray(REQUEST_BYTES + payload);
        for (const reply of answer(request, socket)) socket.write(reply);
      }
    });
  });
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return path;
}

async function open(t: Test, script: Script, context?: string): Promise<NbdClient> {
  const over = new AbortController();
  t.teardown(() => over.abort());
  return NbdClient.open(await serve(t, script), { signal: over.signal, context });
}

t.test('answers come in any order, in pieces, and each goes to whom it is for', async (t) => {
  const waiting: Request[] = [];
  const answer = (request: Request, socket: Socket) => {
    waiting.push(request);
    if (waiting.length < 3) return [];
    const [first, second, third] = waiting as [Request, Request, Request];
    const bytes = Buffer.concat([
      data(third, 8 * 512, Buffer.alloc(512, 'c')),
      data(first, 256, Buffer.alloc(256, 'A'), 0),
      hole(second, 512, 512),
      data(first, 0, Buffer.alloc(256, 'a')),
    ]);
    for (const byte of bytes) socket.write(Buffer.from([byte]));
    return [];
  };
  const client = await open(t, { answer });
  t.equal(client.sizeBytes, SIZE_BYTES);
  const targets = [0, 1, 2].map(() => Buffer.alloc(512, 'x')) as [Buffer, Buffer, Buffer];
  const pieces = await Promise.all([
    client.read(0, targets[0]),
    client.read(512, targets[1]),
    client.read(8 * 512, targets[2]),
  ]);
  t.equal(targets[0].toString(), 'a'.repeat(256) + 'A'.repeat(256));
  t.same(pieces[1], [{ type: 'zero', offset: 512, length: 512 }]);
  t.equal(targets[2].toString(), 'c'.repeat(512));
});

t.test('a server that greets otherwise, or does not end to answer, is left', async (t) => {
  const info = (length: number) => optionReply(7, 3, Buffer.alloc(length));
  const lies: [string, Script][] = [
    ['another greeting', { greeting: Buffer.alloc(GREETING.length, 'x') }],
    ['no structured replies', { option: (code) => (code === 8 ? [optionReply(8, 0x80000001)] : undefined) }],
    ['answers without end', { option: () => Array.from({ length: 100 }, () => info(4)) }],
    ['an answer of a gigabyte', { option: () => [Buffer.concat([u64(0n), u32(7), u32(3), u32(2 ** 30)])] }],
    ['no size', { option: (code) => (code === 7 ? [optionReply(7, 1)] : undefined) }],
    [
      'a size beyond all numbers',
      {
        option: (code) =>
          code === 7
            ? [
                optionReply(7, 3, Buffer.concat([Buffer.alloc(2), u64(2n ** 63n), Buffer.alloc(2)])),
                optionReply(7, 1),
              ]
            : undefined,
      },
    ],
  ];
  for (const [what, script] of lies) await t.rejects(open(t, script), { code: 'UNAVAILABLE' }, what);
});

t.test('what is read is all of what was asked for and nothing else, or nothing', async (t) => {
  const one = Buffer.alloc(512, 1);
  const lies: [string, (request: Request) => Buffer[]][] = [
    ['data before its place', (request) => [data(request, 0, one)]],
    ['data beyond its end', (request) => [data(request, 1024, Buffer.alloc(1024))]],
    ['no data', (request) => [data(request, 512, Buffer.alloc(0))]],
    ['half of it', (request) => [data(request, 512, one)]],
    ['a part twice', (request) => [data(request, 512, one, 0), data(request, 512, one)]],
    ['a hole that is too long', (request) => [hole(request, 512, 4096)]],
    [
      'a hole at no number',
      (request) => [chunk(request, 2, Buffer.concat([u64(2n ** 64n - 1n), u32(1024)]))],
    ],
    ['a hole without a length', (request) => [chunk(request, 2, Buffer.alloc(8))]],
    ['a part without its place', (request) => [chunk(request, 1, Buffer.alloc(4))]],
    ['nothing, and says that it is done', (request) => [chunk(request, 0, Buffer.alloc(0))]],
    ['a simple reply', (request) => [simple(request, 0), Buffer.alloc(1024)]],
    ['a status', (request) => [status(request, [1024, 0])]],
    ['an unknown part', (request) => [chunk(request, 9, Buffer.alloc(8))]],
    ['an error', (request) => [chunk(request, 32769, Buffer.concat([u32(5), Buffer.from([0, 0])]))]],
    ['an error without a number', (request) => [chunk(request, 32769, Buffer.alloc(2))]],
    [
      'words without end',
      (request) => [Buffer.concat([chunk(request, 32769, Buffer.alloc(0)).subarray(0, 16), u32(2 ** 31)])],
    ],
    ['another request', () => [data({ handle: u64(77n) } as Request, 512, one)]],
    ['other bytes', () => [Buffer.alloc(64, 'x')]],
  ];
  for (const [what, answer] of lies) {
    const client = await open(t, { answer });
    await t.rejects(client.read(512, Buffer.alloc(1024)), { code: 'UNAVAILABLE' }, what);
  }
});

t.test('a server that ends, and one that speaks unasked, end every request', async (t) => {
  const ending = await open(t, {
    answer: (request, socket) => {
      socket.end(data(request, 0, Buffer.alloc(1024)).subarray(0, 100));
      return [];
    },
  });
  const reads = [ending.read(0, Buffer.alloc(1024)), ending.read(1024, Buffer.alloc(1024))];
  for (const read of reads) await t.rejects(read, { code: 'UNAVAILABLE', message: /has ended/ });
  await t.rejects(ending.flush(), { code: 'UNAVAILABLE' }, 'and those that come later');
  const talking = { greeting: Buffer.concat([GREETING, Buffer.alloc(100_000)]) };
  await t.rejects(open(t, talking), { code: 'UNAVAILABLE' });
});

t.test('no room is told as such, and other failures as they are', async (t) => {
  for (const [error, code] of [
    [28, 'CAPACITY_EXCEEDED'],
    [5, 'UNAVAILABLE'],
  ] as const) {
    const client = await open(t, { answer: (request) => [simple(request, error)] });
    await t.rejects(client.write(0, Buffer.alloc(512)), { code });
    await t.rejects(client.zero(0, 512), { code }, 'and it is still spoken to');
  }
});

t.test('a disk is read where it has data, and told to its end', async (t) => {
  const asked: [number, number][] = [];
  const answer = (request: Request) => {
    if (request.type === 7)
      return [
        request.offset === 0 ? status(request, [MIB, 3]) : status(request, [MIB, 0], [MIB, 3], [2 * MIB, 0]),
      ];
    asked.push([request.offset, request.length]);
    return [data(request, request.offset, Buffer.alloc(request.length, request.offset === MIB ? 'd' : 0))];
  };
  const client = await open(t, { answer }, 'base:allocation');
  const extents = [];
  for await (const { type, offset } of extentsOfDisk({ client }, 'data')) extents.push([type, offset]);
  t.same(
    asked,
    [
      [MIB, MIB],
      [3 * MIB, MIB],
    ],
    'and no further than the disk goes',
  );
  t.same(extents, [['data', MIB]], 'what is all zeros is not told');
});

t.test('a map of a disk that does not go on is refused', async (t) => {
  const lies: [string, (request: Request) => Buffer[]][] = [
    ['no extent', (request) => [status(request)]],
    ['an extent without length', (request) => [status(request, [0, 0])]],
    ['more than was asked for', (request) => [status(request, [SIZE_BYTES, 3], [MIB, 0])]],
    ['half an extent', (request) => [chunk(request, 5, Buffer.alloc(8))]],
    ['a gigabyte of extents', (request) => [Buffer.concat([status(request).subarray(0, 16), u32(2 ** 30)])]],
  ];
  for (const [what, answer] of lies) {
    const client = await open(t, { answer }, 'base:allocation');
    const read = async () => {
      for await (const extent of extentsOfDisk({ client }, 'data')) t.fail(extent.type);
    };
    await t.rejects(read(), { code: 'UNAVAILABLE' }, what);
  }
});
