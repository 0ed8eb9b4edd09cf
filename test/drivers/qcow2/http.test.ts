/** Image servers that are honest, broken, or hostile. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import type { Qcow2PoolParts } from '../../../src/drivers/qcow2/stores.ts';
import type { ErrorCode } from '../../../src/model/errors.ts';
import { MIB, makeFolder, makePool, makeQcow2, refuses, sha256Of } from './fixtures.ts';

const image = await makeQcow2(join(await makeFolder(t), 'image.qcow2'));
const bytes = await readFile(image);

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Failure {
  code: ErrorCode;
  message: RegExp;
  limits?: Qcow2PoolParts['limits'];
  timeoutMs?: number;
}

async function fails(t: Test, url: string, { code, message, limits = {}, timeoutMs = 30_000 }: Failure) {
  const { pool } = await makePool(t, { limits });
  const request = { id: randomUUID(), source: url, format: 'qcow2', sha256: null } as const;
  await refuses(t, pool.makeImage(request, { timeoutMs }), code, message);
  await nothingLeft(t, pool, request.id);
}

/** What was fetched may stay for a next try, until the image is removed. */
async function nothingLeft(t: Test, pool: Qcow2Pool, id: string) {
  await pool.removeImage(id, 'qcow2');
  t.same(await pool.list(), []);
}

t.test('an image is fetched, with its length announced or not', async (t) => {
  const url = await serve(t, (request, response) => {
    if (request.url === '/long') response.setHeader('content-length', bytes.length);
    response.write(bytes.subarray(0, 100_000));
    response.end(bytes.subarray(100_000));
  });
  const { pool } = await makePool(t);
  for (const path of ['/long', '/chunked']) {
    const request = {
      id: randomUUID(),
      source: url + path,
      format: 'qcow2',
      sha256: await sha256Of(image),
    } as const;
    const totals = new Set<number | null>();
    const facts = await pool.makeImage(request, { onProgress: (_done, total) => totals.add(total) });
    t.equal(facts.sizeBytes, bytes.length);
    t.same([...totals], [path === '/long' ? bytes.length : null]);
    await pool.removeImage(request.id, 'qcow2');
  }
});

t.test('redirects are followed, and no more than the limit', async (t) => {
  const url = await serve(t, (request, response) => {
    const left = Number(request.url?.slice(1));
    if (left === 0) response.end(bytes);
    else response.writeHead(302, { location: `/${left - 1}` }).end();
  });
  const { pool } = await makePool(t);
  t.ok(await pool.makeImage({ id: randomUUID(), source: `${url}/5`, format: 'qcow2', sha256: null }));
  await fails(t, `${url}/6`, { code: 'INVALID_ARGUMENT', message: /redirects more than the 5 times/ });
});

t.test('a redirect to another scheme, or to nothing, is refused', async (t) => {
  const url = await serve(t, (request, response) => {
    const location =
      request.url === '/file' ? 'file:///etc/shadow' : request.url === '/data' ? 'data:,x' : undefined;
    response.writeHead(301, location === undefined ? {} : { location }).end();
  });
  await fails(t, `${url}/file`, { code: 'IMAGE_REFUSED', message: /redirects from http: to file:/ });
  await fails(t, `${url}/data`, { code: 'IMAGE_REFUSED', message: /redirects from http: to data:/ });
  await fails(t, `${url}/none`, { code: 'INVALID_ARGUMENT', message: /redirects to no URL/ });
});

t.test('a status that is no success has the code of what the caller can do', async (t) => {
  const url = await serve(t, (request, response) =>
    response.writeHead(Number(/\d+/.exec(request.url ?? '')?.[0])).end('no'),
  );
  const codes: [number, ErrorCode][] = [
    [404, 'NOT_FOUND'],
    [410, 'NOT_FOUND'],
    [403, 'PERMISSION_DENIED'],
    [418, 'INVALID_ARGUMENT'],
    [206, 'INVALID_ARGUMENT'],
    [429, 'UNAVAILABLE'],
    [500, 'UNAVAILABLE'],
  ];
  for (const [status, code] of codes) {
    await fails(t, `${url}/${status}?signature=secret`, {
      code,
      message: new RegExp(`/${status} answered with`),
    });
  }
});

t.test('a server that announces more than it sends is UNAVAILABLE', async (t) => {
  const url = await serve(t, (_request, response) => {
    response.writeHead(200, { 'content-length': bytes.length + 1 });
    response.write(bytes, () => response.destroy());
  });
  await fails(t, url, { code: 'UNAVAILABLE', message: /broke off/ });
});

t.test('a server that announces less than the image has gets a short image, which is refused', async (t) => {
  const url = await serve(t, (_request, response) => {
    response.strictContentLength = false;
    response.writeHead(200, { 'content-length': 100_000 });
    response.end(bytes);
  });
  await fails(t, url, { code: 'IMAGE_REFUSED', message: /cut short/ });
});

t.test('a server that falls silent is given up, before the answer or in the middle of it', async (t) => {
  const url = await serve(t, (request, response) => {
    if (request.url === '/middle') response.write(bytes.subarray(0, 1000));
  });
  for (const path of ['/start', '/middle']) {
    await fails(t, url + path, {
      code: 'DEADLINE_EXCEEDED',
      message: /silent for 200 ms/,
      limits: { idleMs: 200 },
    });
  }
});

t.test('a server that only drips is given up at the deadline of the call', async (t) => {
  const url = await serve(t, (_request, response) => {
    const timer = setInterval(() => response.write('x'), 20);
    response.on('close', () => clearInterval(timer));
  });
  await fails(t, url, { code: 'DEADLINE_EXCEEDED', message: /not done in 300 ms/, timeoutMs: 300 });
});

t.test('a stream without end stops at the limit, and an announced excess before it begins', async (t) => {
  const url = await serve(t, (request, response) => {
    if (request.url === '/announced') response.writeHead(200, { 'content-length': 3 * MIB });
    const chunk = Buffer.alloc(65_536, 1);
    const more = () => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on('drain', more);
    more();
  });
  const failure: Failure = {
    code: 'IMAGE_REFUSED',
    message: /more than the 2097152 bytes/,
    limits: { imageBytes: 2 * MIB },
  };
  await fails(t, `${url}/endless`, failure);
  await fails(t, `${url}/announced`, failure);
});

t.test('a packed body, an empty one, and a server that is not there are refused', async (t) => {
  const url = await serve(t, (request, response) => {
    if (request.url === '/packed') response.setHeader('content-encoding', 'gzip');
    response.end();
  });
  await fails(t, `${url}/packed`, { code: 'IMAGE_REFUSED', message: /encoded/ });
  await fails(t, `${url}/empty`, { code: 'IMAGE_REFUSED', message: /is empty/ });
  await fails(t, 'http://127.0.0.1:1/x', { code: 'UNAVAILABLE', message: /Cannot fetch|bad port/ });
  await fails(t, 'http://user:secret@127.0.0.1/x', {
    code: 'INVALID_ARGUMENT',
    message: /not supported: http:\/\/127/,
  });
  await fails(t, 'http://', { code: 'INVALID_ARGUMENT', message: /no valid URL/ });
});

t.test('a caller that cancels ends the transfer, and nothing is left', async (t) => {
  const controller = new AbortController();
  const closed = Promise.withResolvers<void>();
  const url = await serve(t, (_request, response) => {
    response.write(bytes.subarray(0, 1000));
    response.on('close', closed.resolve);
    controller.abort();
  });
  const { pool } = await makePool(t);
  const request = { id: randomUUID(), source: url, format: 'qcow2', sha256: null } as const;
  await refuses(t, pool.makeImage(request, { signal: controller.signal }), 'CANCELLED', /cancelled/);
  await closed.promise;
  await nothingLeft(t, pool, request.id);
});
