/** The small pure parts: UUIDs, typed parameters, URIs, pauses. */
import t from 'tap';
import { backoffMs } from '../src/backoff.ts';
import { LibvirtUsageError } from '../src/errors.ts';
import { exact, typedParamsFromObject, typedParamsToObject } from '../src/typed-params.ts';
import { parseUri } from '../src/uri.ts';
import { uuidFromBytes, uuidToBytes } from '../src/uuid.ts';

t.test('UUIDs are read with and without dashes, and written in lower case with them', (t) => {
  const text = '01234567-89ab-cdef-0123-456789abcdef';
  t.equal(uuidFromBytes(uuidToBytes(text.toUpperCase())), text);
  t.equal(uuidFromBytes(uuidToBytes(text.replaceAll('-', ''))), text);
  for (const bad of ['', 'x', `${text}0`, text.slice(1), 7, null])
    t.throws(() => uuidToBytes(bad), LibvirtUsageError);
  t.end();
});

t.test('a 64-bit value is a number while that is exact', (t) => {
  t.equal(exact(2n ** 53n - 1n), 2 ** 53 - 1);
  t.equal(exact(2n ** 53n), 2n ** 53n);
  t.equal(exact(-(2n ** 63n)), -(2n ** 63n));
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
  const types = { bandwidth: 'ullong', uri: 'string' } as const;
  t.same(typedParamsFromObject({ bandwidth: 5, uri: undefined }, types), [
    { field: 'bandwidth', type: 'ullong', value: 5 },
  ]);
  t.throws(() => typedParamsFromObject({ toString: 1 }, types), LibvirtUsageError);
  t.end();
});

t.test('a URI gives the sockets of the monolithic and of the modular daemon', (t) => {
  t.same(parseUri('qemu:///system', 'readWrite'), {
    uri: 'qemu:///system',
    socketPaths: ['/run/libvirt/libvirt-sock', '/run/libvirt/virtqemud-sock'],
  });
  t.same(parseUri('qemu+unix:///system', 'readOnly').socketPaths, [
    '/run/libvirt/libvirt-sock-ro',
    '/run/libvirt/virtqemud-sock-ro',
  ]);
  t.equal(parseUri('test:///default', 'readWrite').uri, 'test:///default');
  for (const bad of [
    '',
    'qemu',
    'qemu://host/system',
    'qemu+ssh:///system',
    'vmware:///session',
    'qemu:///system?socket=x',
  ]) {
    t.throws(() => parseUri(bad, 'readWrite'), LibvirtUsageError, bad);
  }
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
