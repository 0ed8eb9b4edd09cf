import t from 'tap';
import type { TypedParam } from '../../src/typed-params.ts';
import { codecOf } from '../../src/xdr/codec.ts';
import { XdrError, XdrReader } from '../../src/xdr/reader.ts';
import { Pacer } from '../../src/xdr/slices.ts';
import { XdrWriter } from '../../src/xdr/writer.ts';

const STATS = 'remote_connect_get_all_domain_stats_ret';
const DOM = { name: 'd', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: 1 };

function stats(...records: TypedParam[][]): Buffer {
  const writer = new XdrWriter();
  codecOf(STATS).encode(writer, { retStats: records.map((params) => ({ dom: DOM, params })) });
  return writer.finish();
}

function param(field: string, value: number | bigint | string): TypedParam {
  const type = typeof value === 'bigint' ? 'ullong' : typeof value === 'number' ? 'int' : 'string';
  return { field, type, value };
}

function paramsOf(reply: unknown): unknown[] {
  return (reply as { retStats: { params: unknown }[] }).retStats.map(({ params }) => params);
}

t.test('a reader gives typed parameters as a list, or as an object', (t) => {
  const list = [param('state.state', 1), param('cpu.time', 7n), param('name', 'x')];
  const bytes = stats(list);
  t.same(paramsOf(codecOf(STATS).decode(new XdrReader(bytes))), [list]);
  t.same(paramsOf(codecOf(STATS).decode(new XdrReader(bytes, 'object'))), [
    { 'state.state': 1, 'cpu.time': 7n, name: 'x' },
  ]);
  t.end();
});

t.test('names are right whether or not they stand where they stood in the array before', (t) => {
  const records = [
    [param('a', 1), param('bb', 2)],
    [param('a', 3), param('bb', 4), param('c', 5)],
    [],
    [param('b', 6), param('bc', 7)],
    [param('bb', 8), param('a', 9)],
  ];
  const bytes = stats(...records);
  t.same(paramsOf(codecOf(STATS).decode(new XdrReader(bytes))), records);
  t.same(paramsOf(codecOf(STATS).decode(new XdrReader(bytes, 'object'))), [
    { a: 1, bb: 2 },
    { a: 3, bb: 4, c: 5 },
    {},
    { b: 6, bc: 7 },
    { bb: 8, a: 9 },
  ]);
  t.end();
});

t.test('a name that repeats keeps its last value, and __proto__ is a name like others', (t) => {
  const bytes = stats([param('a', 1), param('a', 2), param('__proto__', 3), param('__proto__', 4)]);
  const [params] = paramsOf(codecOf(STATS).decode(new XdrReader(bytes, 'object')));
  t.same(Object.entries(params as object), [
    ['a', 2],
    ['__proto__', 4],
  ]);
  t.equal(Object.getPrototypeOf(params), Object.prototype);
  t.end();
});

t.test('slices give what decoding at once gives, in both shapes', async (t) => {
  const records = Array.from({ length: 500 }, (_, index) =>
    Array.from({ length: index % 40 }, (_, at) => param(`field.${at}.${index % 3}`, BigInt(index * at))),
  );
  const bytes = stats(...records);
  for (const shape of ['list', 'object'] as const) {
    const pacer = new Pacer();
    await pacer.pause();
    const inSlices = codecOf(STATS).decodeInSlices?.(new XdrReader(bytes, shape), pacer);
    t.same(await inSlices, codecOf(STATS).decode(new XdrReader(bytes, shape)), shape);
  }
});

t.test('slices refuse what decoding at once refuses', async (t) => {
  const bytes = stats([param('a', 1), param('b', 2)]);
  bytes.writeUInt32BE(9, bytes.length - 8); // the type of the last parameter
  t.throws(() => codecOf(STATS).decode(new XdrReader(bytes)), XdrError);
  const inSlices = codecOf(STATS).decodeInSlices?.(new XdrReader(bytes), new Pacer());
  await t.rejects(Promise.resolve(inSlices), XdrError);
});
