import t from 'tap';
import { judgeQcow2, judgeRaw, readQcow2Header } from '../../../src/drivers/qcow2/header.ts';
import fc from '../../property.ts';
import { u32, u64 } from './fixtures.ts';

const GIB = 1024 ** 3;
const SOUND = { fileBytes: 262_144, virtualBytesMax: 16 * 1024 * GIB };

/** A header as QEMU writes it, with some fields changed: [offset, bytes]. */
function header(...changes: [number, Buffer][]): Buffer {
  const start = Buffer.alloc(4096);
  const fields: [number, Buffer][] = [
    [0, Buffer.from('QFI\xfb', 'latin1')],
    [4, u32(3)],
    [20, u32(16)],
    [24, u64(BigInt(GIB))],
    [36, u32(2)],
    [40, u64(196_608n)],
    [48, u64(65_536n)],
    [56, u32(1)],
    [96, u32(4)],
    [100, u32(112)],
  ];
  for (const [at, bytes] of [...fields, ...changes]) bytes.copy(start, at);
  return start;
}

function reasonOf(start: Buffer, sizes = SOUND): string | null {
  const judgement = judgeQcow2(start, sizes);
  return judgement.ok ? null : judgement.reason;
}

t.test('a sound header is read', async (t) => {
  t.same(judgeQcow2(header(), SOUND), {
    ok: true,
    value: {
      version: 3,
      virtualSizeBytes: GIB,
      clusterBytes: 65_536,
      backingFile: null,
      hasBitmaps: false,
      encrypted: false,
      hasDataFile: false,
      keyArea: null,
    },
  });
  t.equal(reasonOf(header([4, u32(2)])), null, 'version 2 as well');
  t.equal(reasonOf(header([72, u64(0b11000n)])), null, 'with zstd and subclusters as well');
});

t.test('each thing that is not allowed in an image has its own reason', async (t) => {
  const cases: [RegExp, Buffer][] = [
    [/no qcow2 magic/, header([0, u32(0)])],
    [/no qcow2 magic/, Buffer.alloc(0)],
    [/ends within its header/, header().subarray(0, 40)],
    [/ends within its header/, header().subarray(0, 90)],
    [/version 1;/, header([4, u32(1)])],
    [/version 4;/, header([4, u32(4)])],
    [/cluster_bits are 8/, header([20, u32(8)])],
    [/cluster_bits are 22/, header([20, u32(22)])],
    [
      /backing file, "\/etc\/shadow"/,
      header([8, u64(512n)], [16, u32(11)], [512, Buffer.from('/etc/shadow')]),
    ],
    [/backing file, "json:/, header([8, u64(512n)], [16, u32(7)], [512, Buffer.from('json:{}')])],
    [/backing file has 99999 bytes/, header([8, u64(512n)], [16, u32(99_999)])],
    [/lies beyond its header/, header([8, u64(2n ** 60n)], [16, u32(11)])],
    [/length and no place/, header([16, u32(11)])],
    [/encrypted/, header([32, u32(2)])],
    [/3 internal snapshots/, header([60, u32(3)])],
    [/marked dirty/, header([72, u64(1n)])],
    [/marked corrupt/, header([72, u64(2n)])],
    [/external file/, header([72, u64(4n)])],
    [/unknown features, bits 0x20/, header([72, u64(32n)])],
    [/header_length is 96/, header([100, u32(96)])],
    [/refcount_order is 7/, header([96, u32(7)])],
    [/external data file/, header([112, u32(0x44415441)], [116, u32(4)])],
    [/format of a backing file/, header([112, u32(0xe2792aca)], [116, u32(3)])],
    [/encrypted/, header([112, u32(0x6803f857)], [116, u32(9)], [136, u32(0x0537be77)])],
    [/extensions do not end/, header([112, u32(0x6803f857)], [116, u32(0xffffffff)])],
    [/virtual size is 0/, header([24, u64(0n)])],
    [/not whole sectors/, header([24, u64(513n)])],
    [/virtual size is 17592186044928 bytes/, header([24, u64(2n ** 44n + 512n)])],
    [/virtual size is 18446744073709551615 bytes/, header([24, u64(2n ** 64n - 1n)])],
    [/L1 table has/, header([36, u32(0xffffffff)])],
    [/L1 table ends beyond/, header([40, u64(262_144n)])],
    [/no refcount table/, header([56, u32(0)])],
    [/refcount table has/, header([56, u32(0xffffffff)])],
    [/refcount table ends beyond/, header([48, u64(262_144n)])],
  ];
  for (const [reason, start] of cases) t.match(reasonOf(start), reason);
});

t.test('a volume of ours is read with its backing file', async (t) => {
  const start = header([8, u64(512n)], [16, u32(5)], [512, Buffer.from('/a/b/c')]);
  t.match(readQcow2Header(start), { ok: true, value: { backingFile: '/a/b/' } });
});

t.test('a raw image that a probing tool would take for another format is refused', async (t) => {
  const magics: [string, number][] = [
    ['QFI\xfb', 0],
    ['QED\0', 0],
    ['KDMV', 0],
    ['# Disk DescriptorFile', 0],
    ['vhdxfile', 0],
    ['conectix', 0],
    ['LUKS\xba\xbe', 0],
    ['\x7f\x10\xda\xbe', 64],
  ];
  for (const [magic, at] of magics) {
    const start = Buffer.alloc(512);
    start.write(magic, at, 'latin1');
    t.match(judgeRaw(start, 512), { ok: false, reason: /begins like/ }, magic);
  }
  t.match(judgeRaw(Buffer.alloc(512), 1000), { ok: false, reason: /not whole sectors/ });
  t.same(judgeRaw(Buffer.alloc(512), 1024), {
    ok: true,
    value: { virtualSizeBytes: 1024, clusterBytes: 512 },
  });
});

t.test('no bytes make the judge throw, and what it accepts is plain', async () => {
  const field = fc.tuple(fc.nat(140), fc.uint8Array({ minLength: 1, maxLength: 8 }));
  fc.assert(
    fc.property(fc.array(field, { maxLength: 6 }), fc.nat(4096), (changes, length) => {
      const start = header(...changes.map(([at, bytes]): [number, Buffer] => [at, Buffer.from(bytes)]));
      const judgement = judgeQcow2(start.subarray(0, length), SOUND);
      if (!judgement.ok) return judgement.reason.length > 0;
      return (
        judgement.value.backingFile === null && judgement.value.virtualSizeBytes <= SOUND.virtualBytesMax
      );
    }),
    { numRuns: 2000 },
  );
});
