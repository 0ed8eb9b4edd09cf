/** The client alone, on a service that counts and answers as it is told. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { PlacementClient } from '../../../../src/scheduler/engines/placement/client.ts';
import { eventually } from '../../support/eventually.ts';

const ROOT = {
  versions: [{ id: 'v1.0', min_version: '1.0', max_version: '1.39', status: 'CURRENT', links: [] }],
};
const AT_ONCE = 4;
const ROUND = 2 * AT_ONCE;
/** Of the event loop, in which what was sent arrives. */
const TURNS = 50;

/** Answers `/` at once, and anything else when it is told to. */
async function service(t: Test) {
  const held: ServerResponse[] = [];
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    if (request.url === '/') response.end(JSON.stringify(ROOT));
    else held.push(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const folder = mkdtempSync(join(tmpdir(), 'berth-placement-'));
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, 'admin');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { held, client: new PlacementClient({ url, tokenFile }) };
}

t.test('four requests are under way at a time and no more, whenever one comes', async (t) => {
  const { held, client } = await service(t);
  await client.minor();
  let again = ROUND;
  /** Asks, and once more as soon as that is answered. */
  const ask = (): Promise<unknown> =>
    client.request('GET', '/resource_providers').then(() => (again-- > 0 ? ask() : undefined));
  const asked = Array.from({ length: ROUND }, ask);
  let most = 0;
  for (let answered = 0; answered < 2 * ROUND; answered++) {
    await eventually(() => held.length - answered >= Math.min(AT_ONCE, 2 * ROUND - answered));
    for (let turn = 0; turn < TURNS; turn++) await new Promise(setImmediate); // one too many comes now
    most = Math.max(most, held.length - answered);
    held[answered]?.end('{}');
  }
  await Promise.all(asked);
  t.equal(most, AT_ONCE);
  t.equal(held.length, 2 * ROUND);
});
