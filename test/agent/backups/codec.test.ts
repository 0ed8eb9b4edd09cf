import { randomBytes } from 'node:crypto';
import t from 'tap';
import { Codec, KEY_BYTES, PLAIN_BYTES_LIMIT } from '../../../src/agent/backups/codec.ts';
import { MIB } from '../../../src/model/units.ts';

const KEY = Buffer.alloc(KEY_BYTES, 1);
const codecs = { clear: new Codec(null), encrypted: new Codec(KEY) };
const CONTENTS = {
  empty: Buffer.alloc(0),
  zeros: Buffer.alloc(MIB),
  noise: randomBytes(MIB),
  largest: Buffer.alloc(PLAIN_BYTES_LIMIT, 'abc'),
};

for (const [way, codec] of Object.entries(codecs)) {
  t.test(`${way}: what is written is read, and never takes more than it has`, async (t) => {
    for (const [name, plain] of Object.entries(CONTENTS)) {
      const encoded = await codec.encode(plain, name);
      t.ok((await codec.decode(encoded, name)).equals(plain), name);
      t.ok(encoded.length <= plain.length + 100, name);
    }
  });

  t.test(
    `${way}: any cut is DATA_DAMAGED, and so is any changed byte that changes what is read`,
    async (t) => {
      const plain = Buffer.from('some content of a disk'.repeat(20));
      const encoded = await codec.encode(plain, 'a');
      for (let at = 0; at < encoded.length; at++) {
        const changed = Buffer.from(encoded);
        changed[at] = (changed[at] ?? 0) ^ 0x40;
        const outcome = await codec.decode(changed, 'a').then(
          (read) => (read.equals(plain) ? 'the same' : 'other bytes'),
          ({ code }) => code,
        );
        // In clear, a few bits of zstd's frame and the reserved bytes of the head mean nothing.
        const allowed = ['DATA_DAMAGED', 'UNSUPPORTED', ...(way === 'clear' ? ['the same'] : [])];
        t.ok(allowed.includes(outcome), `byte ${at}: ${outcome}`);
      }
      for (const length of [0, 3, 43, 44, encoded.length - 1]) {
        await t.rejects(codec.decode(encoded.subarray(0, length), 'a'), { code: 'DATA_DAMAGED' });
      }
    },
  );
}

t.test('a head that promises more than its content unpacks to, or less, costs no memory', async (t) => {
  const encoded = await codecs.clear.encode(Buffer.alloc(4 * MIB), 'a');
  for (const length of [0, 1, MIB, PLAIN_BYTES_LIMIT, PLAIN_BYTES_LIMIT + 1, 2 ** 32 - 1]) {
    const lying = Buffer.from(encoded);
    lying.writeUInt32BE(length, 8);
    await t.rejects(codecs.clear.decode(lying, 'a'), { code: 'DATA_DAMAGED' });
  }
});

t.test('encrypted bytes tell nothing, and are read only by their key and under their name', async (t) => {
  const plain = Buffer.from('a secret of the guest, which must not be seen');
  const encoded = await codecs.encrypted.encode(plain, 'a');
  t.notOk(encoded.includes('secret'));
  t.not(codecs.encrypted.idOf(plain), codecs.clear.idOf(plain));
  t.notOk((await codecs.encrypted.encode(plain, 'a')).equals(encoded), 'nonces differ');
  await t.rejects(codecs.encrypted.decode(encoded, 'b'), { code: 'DATA_DAMAGED' });
  await t.rejects(new Codec(Buffer.alloc(KEY_BYTES, 2)).decode(encoded, 'a'), { code: 'DATA_DAMAGED' });
  await t.rejects(codecs.clear.decode(encoded, 'a'), { code: 'PERMISSION_DENIED' });
  const clear = await codecs.clear.encode(plain, 'a');
  await t.rejects(codecs.encrypted.decode(clear, 'a'), { code: 'DATA_DAMAGED' });
  t.throws(() => new Codec(Buffer.alloc(16)), { code: 'INVALID_ARGUMENT' });
});
