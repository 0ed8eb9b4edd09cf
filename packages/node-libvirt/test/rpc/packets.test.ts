import t from 'tap';
import { PACKET_MAX_BYTES, type Packet, packetsOf } from '../../src/rpc/packets.ts';

function sizesOf(packets: readonly Packet[]): (number[] | bigint)[] {
  return packets.map((packet) =>
    'hole' in packet ? packet.hole : packet.pieces.map((piece) => piece.length),
  );
}

t.test('small chunks go into one packet, and a large one into several', (t) => {
  t.same(sizesOf(packetsOf([Buffer.alloc(10), Buffer.alloc(20)])), [[10, 20]]);
  t.same(sizesOf(packetsOf([Buffer.alloc(2 * PACKET_MAX_BYTES + 1)])), [
    [PACKET_MAX_BYTES],
    [PACKET_MAX_BYTES],
    [1],
  ]);
  t.same(sizesOf(packetsOf([Buffer.alloc(PACKET_MAX_BYTES - 1), Buffer.alloc(5)])), [
    [PACKET_MAX_BYTES - 1, 1],
    [4],
  ]);
  t.end();
});

t.test('empty chunks give no packet, since an empty one would end the data', (t) => {
  t.same(packetsOf([]), []);
  t.same(packetsOf([Buffer.alloc(0), Buffer.alloc(0)]), []);
  t.same(sizesOf(packetsOf([Buffer.alloc(0), Buffer.alloc(1), Buffer.alloc(0)])), [[1]]);
  t.end();
});

t.test('a hole stands between the data before and after it', (t) => {
  t.same(sizesOf(packetsOf([Buffer.alloc(1), 5n, 6n, Buffer.alloc(2), Buffer.alloc(3)])), [
    [1],
    5n,
    6n,
    [2, 3],
  ]);
  t.end();
});

t.test('bytes keep their order and are not copied', (t) => {
  const chunk = Buffer.from(Array.from({ length: PACKET_MAX_BYTES + 100 }, (_, index) => index & 0xff));
  const pieces = packetsOf([chunk]).flatMap((packet) => ('pieces' in packet ? packet.pieces : []));
  t.ok(Buffer.concat(pieces).equals(chunk));
  t.ok(pieces.every((piece) => piece.buffer === chunk.buffer));
  t.end();
});
