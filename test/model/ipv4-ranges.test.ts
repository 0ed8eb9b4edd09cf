import t from 'tap';
import {
  formatAddress,
  isHostAddress,
  netmask,
  overlap,
  parseAddress,
  parseRange,
  prefixLength,
} from '../../src/model/ipv4.ts';
import fc from '../property.ts';

const anAddress = fc.nat({ max: 2 ** 32 - 1 });
const aRange = fc
  .tuple(anAddress, fc.integer({ min: 0, max: 32 }))
  .map(([address, prefix]) => `${formatAddress(address)}/${prefix}`);

t.test('an address that is formatted is read back as it was', async () => {
  fc.assert(fc.property(anAddress, (address) => parseAddress(formatAddress(address)) === address));
});

t.test('a range has the size of its prefix and begins on a multiple of it', async () => {
  fc.assert(
    fc.property(aRange, (text) => {
      const { first, last } = parseRange(text)!;
      const size = 2 ** (32 - Number(text.split('/')[1]));
      return (
        last - first + 1 === size &&
        first % size === 0 &&
        prefixLength({ first, last }) === Math.log2(2 ** 32 / size)
      );
    }),
  );
});

t.test('two ranges overlap exactly when one holds the first address of the other', async () => {
  fc.assert(
    fc.property(aRange, aRange, (one, other) => {
      const [a, b] = [parseRange(one)!, parseRange(other)!];
      const holds = (range: typeof a, address: number) => address >= range.first && address <= range.last;
      return overlap(a, b) === (holds(a, b.first) || holds(b, a.first));
    }),
  );
});

t.test('what is no address and no range is null', async (t) => {
  for (const text of ['', '1.2.3', '1.2.3.4.5', '1.2.3.256', '01.2.3.4', '1.2.3.-4', ' 1.2.3.4', 'default']) {
    t.equal(parseAddress(text), null, text);
    t.equal(parseRange(text), null, text);
  }
  for (const text of ['1.2.3.4/33', '1.2.3.4/', '1.2.3.4/8/8', '1.2.3.4/a'])
    t.equal(parseRange(text), null, text);
});

t.test('the network and broadcast addresses are no host addresses', async (t) => {
  const range = parseRange('10.80.0.0/29')!;
  const hosts = [0, 1, 6, 7, 8].map((n) => isHostAddress(range, parseAddress(`10.80.0.${n}`)!));
  t.same(hosts, [false, true, true, false, false]);
  t.equal(netmask(range), '255.255.255.248');
  t.same(parseRange('10.80.0.9'), { first: parseAddress('10.80.0.9'), last: parseAddress('10.80.0.9') });
});
