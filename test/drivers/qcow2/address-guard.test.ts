import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { AddressGuard } from '../../../src/drivers/qcow2/address-guard.ts';
import { makePool, refuses } from './fixtures.ts';

t.test(
  'this host, its links, metadata services and groups are refused, however they are written',
  async (t) => {
    const guard = new AddressGuard([]);
    const refused: Record<string, RegExp> = {
      '127.0.0.1': /this host/,
      '127.255.0.9': /this host/,
      '0.0.0.0': /this host/,
      '::1': /this host/,
      '::': /this host/,
      '169.254.169.254': /link-local/,
      'fe80::1': /link-local/,
      'febf::ffff': /link-local/,
      '::ffff:169.254.169.254': /link-local/,
      '::ffff:7f00:1': /this host/,
      '::127.0.0.1': /this host/,
      '64:ff9b::a9fe:a9fe': /link-local/,
      '2002:7f00:1::': /this host/,
      'fd00:ec2::254': /metadata/,
      '100.100.100.200': /metadata/,
      '168.63.129.16': /metadata/,
      '224.0.0.1': /no single host/,
      '255.255.255.255': /no single host/,
      'ff02::1': /no single host/,
    };
    for (const [address, why] of Object.entries(refused)) t.match(guard.refusal(address), why, address);
  },
);

t.test('servers of a private network and of the internet are allowed', async (t) => {
  const guard = new AddressGuard([]);
  for (const address of [
    '10.0.0.1',
    '192.168.1.1',
    '1.1.1.1',
    'fd00::1',
    '2606:4700::1111',
    '::ffff:10.0.0.1',
  ]) {
    t.equal(guard.refusal(address), null, address);
  }
});

t.test('an operator can allow a range, and nothing beside it', async (t) => {
  const guard = new AddressGuard(['127.0.0.0/30', 'fe80::/64']);
  t.equal(guard.refusal('127.0.0.3'), null);
  t.equal(guard.refusal('::ffff:127.0.0.1'), null);
  t.equal(guard.refusal('fe80::7'), null);
  t.ok(guard.refusal('127.0.0.4'));
  for (const range of ['127.0.0.0', '127.0.0.0/33', 'x/8', 'fe80::/129', '']) {
    t.throws(() => new AddressGuard([range]), { code: 'INVALID_ARGUMENT' }, range);
  }
});

t.test('no image is fetched from a refused address: written, resolved, or redirected to', async (t) => {
  let reached = 0;
  const server = createServer((_request, response) => {
    reached++;
    response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const closed = (await makePool(t, { allowAddresses: [] })).pool;
  const make = (pool: typeof closed, source: string) =>
    pool.makeImage({ id: randomUUID(), source, format: 'qcow2', sha256: null });
  for (const host of ['127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '2130706433', '0x7f.1']) {
    await refuses(
      t,
      make(closed, `http://${host}:${port}/`),
      'PERMISSION_DENIED',
      /No image is fetched from .*this host/,
    );
  }
  t.equal(reached, 0);
  const { pool } = await makePool(t);
  await refuses(
    t,
    make(pool, `http://127.0.0.1:${port}/`),
    'PERMISSION_DENIED',
    /from 169.254.169.254: it is link-local/,
  );
  t.equal(reached, 1);
  t.same([...(await closed.list()), ...(await pool.list())], []);
});
