/** Transfers that break: gone on with, over mirrors and after a crash, and never mixed from two objects. */
import { randomUUID } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import { exec, makeFolder, makePool, makeQcow2, refuses, sha256Of } from './fixtures.ts';

const image = await makeQcow2(join(await makeFolder(t), 'image.qcow2'));
const bytes = await readFile(image);
const sha256 = await sha256Of(image);

/** What is asked of a server that is to go on; how much had come when the line broke is up to the kernel. */
const RANGE = /^bytes=[1-9]\d{4,}-$/;

interface ServerOptions {
  body?: Buffer;
  /** Null: none is sent. */
  etag?: string | null;
  /** Bytes of each answer, before the connection breaks; undefined: all. */
  breakAfter?: (requests: number) => number | undefined;
  /** Answers a range with the whole. */
  ignoresRanges?: boolean;
  /** Changes what is said of the range. */
  contentRange?: string;
  status?: number;
}

/** A server of one object that keeps ranges as RFC 9110 says, and breaks when it is told to. */
async function serve(
  t: Test,
  options: ServerOptions = {},
): Promise<{ url: string; asked: (string | undefined)[] }> {
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    asked.push(request.headers.range);
    answer(request, response, options, asked.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/image`, asked };
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: ServerOptions,
  requests: number,
): void {
  const {
    body = bytes,
    etag = '"one"',
    breakAfter = () => undefined,
    ignoresRanges = false,
    status,
  } = options;
  if (status !== undefined) return void response.writeHead(status).end();
  const match = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
  const condition = request.headers['if-range'];
  const from =
    match !== null && !ignoresRanges && (condition === undefined || condition === etag)
      ? Number(match[1])
      : 0;
  const part = body.subarray(from);
  const range = options.contentRange ?? `bytes ${from}-${body.length - 1}/${body.length}`;
  response.writeHead(from > 0 ? 206 : 200, {
    'content-length': part.length,
    ...(etag === null ? {} : { etag }),
    ...(from > 0 ? { 'content-range': range } : {}),
  });
  const length = breakAfter(requests);
  if (length === undefined) response.end(part);
  else response.write(part.subarray(0, length), () => setImmediate(() => response.destroy()));
}

function request(source: string, more: object = {}) {
  return { id: randomUUID(), source, format: 'qcow2', sha256: null, ...more } as const;
}

t.test('a transfer that breaks again and again is gone on with, each byte sent once', async (t) => {
  const { url, asked } = await serve(t, { breakAfter: (n) => (n < 4 ? 300_000 : undefined) });
  const { pool } = await makePool(t);
  const seen: number[] = [];
  const facts = await pool.makeImage(request(url), { onProgress: (done) => void seen.push(done) });
  t.equal(facts.sha256, sha256);
  t.match(asked, [undefined, RANGE, RANGE, RANGE]);
  const starts = asked.map((range) => Number(range?.slice(6, -1) ?? 0));
  t.same(
    starts,
    starts.toSorted((a, b) => a - b),
  );
  t.equal(new Set(starts).size, 4);
  t.same(
    seen,
    seen.toSorted((a, b) => a - b),
  );
});

t.test('what an agent that crashed has fetched is gone on with by the next', async (t) => {
  const { url, asked } = await serve(t, { breakAfter: (n) => (n === 1 ? 400_000 : n === 2 ? 0 : undefined) });
  const { pool, folder } = await makePool(t);
  const again = request(url);
  await refuses(t, pool.makeImage(again), 'UNAVAILABLE', /broke off|Cannot fetch/);
  const next = new Qcow2Pool({
    name: 'main',
    path: join(folder, 'pool'),
    exec,
    allowAddresses: ['127.0.0.0/8'],
  });
  t.equal((await next.makeImage(again)).sha256, sha256);
  t.match(asked.at(-1), RANGE);
  t.same((await readdir(join(folder, 'pool/images'))).sort(), [`${again.id}.json`, `${again.id}.qcow2`]);
});

t.test('an object that has changed meanwhile is fetched anew', async (t) => {
  const other = Buffer.from(bytes);
  other.fill(1, 1_000_000, 1_000_100);
  const caller = new AbortController();
  const breakAfter = (n: number) => {
    if (n === 2) caller.abort();
    return 500_000;
  };
  const options: ServerOptions = { body: other, etag: '"old"', breakAfter };
  const { url, asked } = await serve(t, options);
  const { pool } = await makePool(t);
  const again = request(url);
  await refuses(t, pool.makeImage(again, { signal: caller.signal }), 'CANCELLED', /cancelled/);
  Object.assign(options, { body: bytes, etag: '"new"', breakAfter: () => undefined });
  t.equal((await pool.makeImage(again)).sha256, sha256);
  t.match(asked.at(-1), /^bytes=/, 'it was asked to go on, and sent the whole');
});

t.test('a server without ranges, or with no word on the version, is asked for the whole again', async (t) => {
  for (const options of [{ ignoresRanges: true }, { etag: null }, { etag: 'W/"weak"' }]) {
    const { url } = await serve(t, { ...options, breakAfter: (n) => (n === 1 ? 700_000 : undefined) });
    const { pool } = await makePool(t);
    t.equal((await pool.makeImage(request(url))).sha256, sha256);
  }
});

t.test('a server that sends another part than asked for is asked for the whole', async (t) => {
  const { url, asked } = await serve(t, {
    breakAfter: (n) => (n === 1 ? 300_000 : undefined),
    contentRange: `bytes 0-${bytes.length - 1}/${bytes.length}`,
  });
  const { pool } = await makePool(t);
  t.equal((await pool.makeImage(request(url))).sha256, sha256);
  t.match(asked, [undefined, RANGE, undefined]);
});

t.test('a mirror goes on where a digest will prove the whole, and begins anew where none does', async (t) => {
  for (const digest of [sha256, null]) {
    const first = await serve(t, { breakAfter: () => 500_000 });
    const second = await serve(t, { etag: '"other"' });
    const { pool } = await makePool(t);
    const facts = await pool.makeImage(request(first.url, { mirrors: [second.url], sha256: digest }));
    t.equal(facts.sha256, sha256);
    t.match(second.asked, [digest === null ? undefined : RANGE]);
  }
});

t.test('a mirror that is gone, or lies, makes room for the next', async (t) => {
  const gone = await serve(t, { status: 404 });
  const lying = await serve(t, { body: Buffer.from(bytes).fill(9, 900_000, 900_010) });
  const good = await serve(t);
  const { pool } = await makePool(t);
  const mirrors = [lying.url, good.url];
  t.equal((await pool.makeImage(request(gone.url, { mirrors, sha256 }))).sha256, sha256);
  const fresh = (await makePool(t)).pool;
  const alone = request(gone.url, { mirrors: [lying.url], sha256 });
  await refuses(t, fresh.makeImage(alone), 'NOT_FOUND', /status 404/);
  await refuses(t, fresh.makeImage(request(lying.url, { sha256 })), 'IMAGE_REFUSED', /its SHA-256 is/);
});

t.test('a whole made of the parts of two objects is never taken: it is fetched once more', async (t) => {
  const first = await serve(t, { body: Buffer.from(bytes).fill(9, 1000, 1010), breakAfter: () => 500_000 });
  const second = await serve(t);
  const { pool } = await makePool(t);
  const facts = await pool.makeImage(request(first.url, { mirrors: [second.url], sha256 }));
  t.equal(facts.sha256, sha256);
  t.match(second.asked, [RANGE, undefined]);
});

t.test('a SHA-512 is held to as well', async (t) => {
  const { url } = await serve(t);
  const { pool } = await makePool(t);
  const { stdout } = await exec.run('sha512sum', [image]);
  const sha512 = stdout.slice(0, 128);
  await refuses(
    t,
    pool.makeImage(request(url, { sha512: 'a'.repeat(128) })),
    'IMAGE_REFUSED',
    /its SHA-512 is/,
  );
  t.equal((await pool.makeImage(request(url, { sha512 }))).sha256, sha256);
  await refuses(t, pool.makeImage(request(url, { sha512: 'x' })), 'INVALID_ARGUMENT', /128 hexadecimal/);
});
