/** The small pure parts: UUIDs, typed parameters, pauses. */
import t from 'tap';
import { backoffMs } from '../src/backoff.ts';
import { LibvirtUsageError } from '../src/errors.ts';
import { type TypedParamsInput, typedParamsFromObject, typedParamsToObject } from '../src/typed-params.ts';
import { uuidFromBytes, uuidToBytes } from '../src/uuid.ts';

t.test('UUIDs are read with and without dashes, and written in lower case with them', (t) => {
  const text = '01234567-89ab-cdef-0123-456789abcdef';
  t.equal(uuidFromBytes(uuidToBytes(text.toUpperCase())), text);
  t.equal(uuidFromBytes(uuidToBytes(text.replaceAll('-', ''))), text);
  for (const bad of ['', 'x', `${text}0`, text.slice(1), 7, null])
    t.throws(() => uuidToBytes(bad), LibvirtUsageError);
  t.end();
});

t.test('typed parameters become a plain object, even with a hostile name', (t) => {
  const object = typedParamsToObject([
    { field: 'a', type: 'int', value: 1 },
    { field: 'a', type: 'int', value: 2 },
    { field: '__proto__', type: 'string', value: 'x' },
  ]);
  t.equal(object['a'], 2);
  t.equal(Object.getPrototypeOf(object), Object.prototype);
  t.ok(Object.hasOwn(object, '__proto__'));
  t.end();
});

t.test('a plain object becomes typed parameters with the types that libvirt wants', (t) => {
  t.same(typedParamsFromObject({ bandwidth: 5, migrate_uri: undefined, migrate_disks: ['vda', 'vdb'] }), [
    { field: 'bandwidth', type: 'ullong', value: 5 },
    { field: 'migrate_disks', type: 'string', value: 'vda' },
    { field: 'migrate_disks', type: 'string', value: 'vdb' },
  ]);
  t.same(typedParamsFromObject({ 'of.the.future': { type: 'llong', value: -1n } }), [
    { field: 'of.the.future', type: 'llong', value: -1n },
  ]);
  for (const bad of [{ toString: 1 }, { 'of.the.future': 1 }, null, [1], 'text'] as unknown[])
    t.throws(() => typedParamsFromObject(bad as TypedParamsInput), LibvirtUsageError);
  t.end();
});

t.test('pauses between attempts double up to their limit, and the first attempt has none', (t) => {
  const options = { initialMs: 100, maxMs: 1000 };
  t.equal(backoffMs(options, 0, 1), 0);
  t.same(
    [1, 2, 3, 4, 5, 6, 99].map((attempt) => backoffMs(options, attempt, 1)),
    [100, 200, 400, 800, 1000, 1000, 1000],
  );
  t.equal(backoffMs(options, 3, 0), 200);
  t.end();
});
