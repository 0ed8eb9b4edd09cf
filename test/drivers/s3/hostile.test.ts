/**
 * A far side that fails, stalls, lies or attacks: each gets a typed error, in bounded time and memory.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import type { ObjectFault } from '../../../src/drivers/contracts/objects.ts';
import type { S3Limits, S3Settings } from '../../../src/drivers/s3/settings.ts';
import type { S3Store } from '../../../src/drivers/s3/store.ts';
import { AgentError, type ErrorCode } from '../../../src/model/errors.ts';
import { MIB } from '../../../src/model/units.ts';
import { bytesOf, collect, digestOf } from '../contract/objects.ts';
import {
  type Answer,
  type Asked,
  type FakeServer,
  fakeServer,
  page,
  s3Error,
  xml,
} from './server/fake-server.ts';
import { credentialsFile, makeStore } from './server/s3-server.ts';

const ATTEMPTS = 3;
const SECRET = 'verySecretKeyOfTheTestsThatNobodyMaySee';
const LIMITS: Partial<S3Limits> = { attempts: ATTEMPTS };
/** For a far side that is silent for ever: how long is of no matter. */
const IMPATIENT: Partial<S3Limits> = { attemptMs: 300, idleMs: 300 };

async function folderOf(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-s3-'));
  t.teardown(() => rm(folder, { recursive: true }));
  return folder;
}

async function against(
  t: Test,
  answer: Answer,
  {
    settings = {},
    limits = {},
    tls,
  }: Partial<{
    settings: Partial<S3Settings>;
    limits: Partial<S3Limits>;
    tls: { key: string; cert: string };
  }> = {},
): Promise<{ store: S3Store; server: FakeServer }> {
  const server = await fakeServer(t, answer, tls);
  const credentials = await credentialsFile(await folderOf(t), SECRET);
  const store = makeStore(
    t,
    { endpoint: server.endpoint, credentialsFile: credentials, prefix: 'p/', ...settings },
    { ...LIMITS, ...limits },
  );
  return { store, server };
}

async function fails(
  t: Test,
  act: () => Promise<unknown>,
  code: ErrorCode,
  fault?: ObjectFault,
): Promise<AgentError> {
  const error = await act().then(
    () => null,
    (thrown: unknown) => thrown,
  );
  t.ok(error instanceof AgentError, 'an AgentError');
  t.match(error, { code, ...(fault === undefined ? {} : { details: { store: 'test', fault } }) });
  return error as AgentError;
}

const md5 = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex');
const never: Answer = () => undefined;

t.test('a server that never answers is asked a few times, then UNAVAILABLE', async (t) => {
  const { store, server } = await against(t, never, { limits: IMPATIENT });
  await fails(t, () => store.head('a'), 'UNAVAILABLE', 'stalled');
  t.equal(server.asked.length, ATTEMPTS);
});

t.test('the deadline of a call and its signal end a wait at once', async (t) => {
  const { store } = await against(t, never);
  await fails(t, () => store.head('a', { timeoutMs: 50 }), 'DEADLINE_EXCEEDED');
  const controller = new AbortController();
  const asking = store.put('a', bytesOf(10), { signal: controller.signal });
  controller.abort();
  await fails(t, () => asking, 'CANCELLED');
});

t.test('a server that is not there is UNAVAILABLE', async (t) => {
  const { store, server } = await against(t, never, { settings: { endpoint: 'http://127.0.0.1:1' } });
  await fails(t, () => store.probe(), 'UNAVAILABLE', 'unreachable');
  t.equal(server.asked.length, 0);
});

const PASSING: [status: number, code: string, fault: ObjectFault][] = [
  [500, 'InternalError', 'server-error'],
  [502, 'BadGateway', 'server-error'],
  [503, 'SlowDown', 'throttled'],
  [429, 'TooManyRequests', 'throttled'],
];
for (const [status, code, fault] of PASSING) {
  t.test(`status ${status} is tried again, and passes or is told`, async (t) => {
    const passing = await against(t, (_, response, count) =>
      count < ATTEMPTS ? s3Error(response, status, code) : xml(response, page(['p/a'])),
    );
    t.equal((await passing.store.list()).objects.length, 1);
    const lasting = await against(t, (_, response) => s3Error(response, status, code));
    await fails(t, () => lasting.store.list(), 'UNAVAILABLE', fault);
    t.equal(lasting.server.asked.length, ATTEMPTS);
  });
}

const REFUSALS: [status: number, code: string, expected: ErrorCode][] = [
  [400, 'InvalidRequest', 'INVALID_ARGUMENT'],
  [401, 'Unauthorized', 'PERMISSION_DENIED'],
  [403, 'AccessDenied', 'PERMISSION_DENIED'],
  [404, 'NoSuchBucket', 'NOT_FOUND'],
  [405, 'MethodNotAllowed', 'UNAVAILABLE'],
  [409, 'OperationAborted', 'UNAVAILABLE'],
];
for (const [status, code, expected] of REFUSALS) {
  t.test(`status ${status} ${code} is told at once as ${expected}`, async (t) => {
    const { store, server } = await against(t, (_, response) => s3Error(response, status, code));
    await fails(t, () => store.list(), expected, 'refused');
    await fails(t, () => store.put('a', bytesOf(1)), expected, 'refused');
    t.equal(server.asked.length, 2);
  });
}

t.test('a redirect is never followed, and the other place hears nothing', async (t) => {
  const elsewhere = await fakeServer(t, (_, response) => xml(response, page([])));
  for (const status of [301, 302, 307, 308]) {
    const { store, server } = await against(t, (_, response) => {
      response.writeHead(status, {
        location: `${elsewhere.endpoint}/bucket`,
        'x-amz-bucket-region': 'eu-west-1',
      });
      response.end();
    });
    await fails(t, () => store.list(), 'UNAVAILABLE', 'redirected');
    await fails(t, () => store.get('a'), 'UNAVAILABLE', 'redirected');
    await fails(t, () => store.put('a', bytesOf(1)), 'UNAVAILABLE', 'redirected');
    t.equal(server.asked.length, 3);
  }
  t.equal(elsewhere.asked.length, 0);
});

t.test('an endless answer ends at its limit, without filling the memory', async (t) => {
  let sent = 0;
  const { store } = await against(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'application/xml' });
    const flood = () => {
      while (!response.destroyed && response.write(Buffer.alloc(MIB, '<a>'))) sent += 1;
    };
    response.on('drain', flood);
    flood();
  });
  const before = process.memoryUsage().rss;
  await fails(t, () => store.list(), 'UNAVAILABLE', 'protocol');
  await fails(t, () => store.removeMany(['a']), 'UNAVAILABLE', 'protocol');
  t.ok(process.memoryUsage().rss - before < 128 * MIB);
  t.ok(sent < 128);
});

const NONSENSE: [name: string, answer: (response: ServerResponse) => void][] = [
  ['no XML', (response) => response.end('hello')],
  ['an empty body', (response) => response.end()],
  ['HTML', (response) => xml(response, '<html><body>Welcome</body></html>')],
  ['broken XML', (response) => xml(response, '<ListBucketResult><Contents><Key>a')],
  ['keys of others', (response) => xml(response, page(['q/a']))],
  ['keys out of order', (response) => xml(response, page(['p/b', 'p/a']))],
  ['a key twice', (response) => xml(response, page(['p/a', 'p/a']))],
  ['more keys than asked for', (response) => xml(response, page(['p/a', 'p/b', 'p/c']))],
  ['an empty page that is not the last', (response) => xml(response, page([], { more: true }))],
  ['a negative size', (response) => xml(response, page(['p/a']).replace('<Size>1', '<Size>-1'))],
  ['no size', (response) => xml(response, page(['p/a']).replace('<Size>1</Size>', ''))],
  ['a time that is none', (response) => xml(response, page(['p/a']).replace('2026-01-01', 'yesterday'))],
  ['deep nesting', (response) => xml(response, `${'<a>'.repeat(200_000)}${'</a>'.repeat(200_000)}`)],
  ['headers without end', (response) => response.writeHead(200, { 'x-long': 'x'.repeat(100_000) }).end()],
];
for (const [name, answer] of NONSENSE) {
  t.test(`a listing with ${name} is not believed`, async (t) => {
    const { store } = await against(t, (_, response) => answer(response));
    await fails(t, () => store.list({ limit: 2 }), 'UNAVAILABLE', 'protocol');
  });
}

t.test('entities that would unfold without end do not', async (t) => {
  const entity = (name: string) =>
    `<!ENTITY ${name} "${`&${String.fromCharCode(name.charCodeAt(0) - 1)};`.repeat(10)}">`;
  const types = `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">${[...'bcdefghi'].map(entity).join('')}]>`;
  const { store } = await against(t, (_, response) => xml(response, `${types}${page(['p/&i;'])}`));
  t.same((await store.list()).objects, []);
});

t.test('an answer about removed objects that names none of them is not believed', async (t) => {
  for (const answer of ['', '<DeleteResult/>', '<html><body>Welcome</body></html>']) {
    const { store } = await against(t, (_, response) => xml(response, answer));
    await fails(t, () => store.removeMany(['a']), 'UNAVAILABLE', 'protocol');
  }
});

t.test('keys that are not ours are left out, and the page after them is found', async (t) => {
  const { store, server } = await against(t, (_, response) =>
    xml(response, page(['p/.hidden', 'p/a', 'p/b c'], { more: true })),
  );
  const { objects, next } = await store.list();
  t.same(
    objects.map(({ key }) => key),
    ['a'],
  );
  t.equal(next, 'b c');
  await store.list({ after: next as string }).catch(() => undefined);
  t.match(server.asked[1]?.url, /start-after=p%2Fb%20c/);
});

/** Serves an object with ranges, and lets `spoil` answer instead. */
function objectAnswer(
  content: Buffer,
  spoil: (asked: Asked, response: ServerResponse, count: number) => boolean,
): Answer {
  return (asked, response, count) => {
    if (spoil(asked, response, count)) return;
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(String(asked.headers.range)) ?? [];
    const part = from === undefined ? content : content.subarray(Number(from), Number(to) + 1);
    response.writeHead(from === undefined ? 200 : 206, {
      'content-length': part.length,
      etag: '"one"',
      ...(from === undefined ? {} : { 'content-range': `bytes ${from}-${to}/${content.length}` }),
    });
    response.end(part);
  };
}

function announce(response: ServerResponse, length: number, body: Buffer): void {
  response.writeHead(200, { 'content-length': length, etag: '"one"' });
  response.write(body);
}

t.test('a transfer that breaks off or stalls goes on where it was, by the same entity', async (t) => {
  const content = await collect(bytesOf(300_000));
  const spoils: Record<string, (response: ServerResponse) => void> = {
    'breaks off': (response) => {
      announce(response, content.length, content.subarray(0, 100_000));
      response.write('', () => response.destroy());
    },
    stalls: (response) => announce(response, content.length, content.subarray(0, 100_000)),
  };
  for (const [name, spoil] of Object.entries(spoils)) {
    const { store, server } = await against(
      t,
      objectAnswer(content, (_, response, count) => {
        if (count === 1) spoil(response);
        return count === 1;
      }),
      { limits: { idleMs: 1_000 } },
    );
    const sha256 = await digestOf(bytesOf(300_000));
    t.same(await collect(await store.get('a', { sha256 })), content, name);
    t.equal(server.asked.length, 2);
    t.equal(server.asked[1]?.headers['if-match'], '"one"');
  }
});

t.test('a transfer that always breaks off, or drips, is given up', async (t) => {
  const cut = await against(t, (_, response) => {
    announce(response, 1000, Buffer.alloc(10));
    response.write('', () => response.destroy());
  });
  await fails(t, async () => collect(await cut.store.get('a')), 'UNAVAILABLE');
  const dripping = await against(
    t,
    (_, response) => {
      announce(response, 1000, Buffer.alloc(1));
      const timer = setInterval(() => response.write('x'), 20);
      response.on('close', () => clearInterval(timer));
    },
    { limits: IMPATIENT },
  );
  await fails(t, async () => collect(await dripping.store.get('a')), 'UNAVAILABLE');
});

t.test('an object that is not as long as announced, or another range, is not believed', async (t) => {
  const short = await against(t, (_, response) => {
    response.writeHead(200, { etag: '"one"' });
    response.end('chunked, without a length');
  });
  await fails(t, () => short.store.get('a'), 'UNAVAILABLE', 'protocol');
  const other = await against(t, (_, response) => {
    response.writeHead(206, { 'content-length': 10, 'content-range': 'bytes 5-14/100', etag: '"one"' });
    response.end('0123456789');
  });
  await fails(t, () => other.store.get('a', { range: { offset: 0, length: 10 } }), 'UNAVAILABLE', 'protocol');
  const whole = await against(
    t,
    objectAnswer(Buffer.alloc(100), () => false),
  );
  const sha256 = '0'.repeat(64);
  await fails(t, async () => collect(await whole.store.get('a', { sha256 })), 'DATA_DAMAGED', 'damaged');
});

t.test('a store that took other bytes than were sent is found out', async (t) => {
  const { store } = await against(t, (_, response) => {
    response.writeHead(200, { etag: `"${'0'.repeat(32)}"` });
    response.end();
  });
  await fails(t, () => store.put('a', bytesOf(10)), 'DATA_DAMAGED', 'damaged');
});

t.test('tags that are no MD5, or made with keys of the store, say nothing', async (t) => {
  for (const headers of [
    { etag: '"opaque"' },
    { etag: `"${'0'.repeat(32)}"`, 'x-amz-server-side-encryption': 'aws:kms' },
  ]) {
    const { store } = await against(t, (_, response) => {
      response.writeHead(200, headers);
      response.end();
    });
    t.match(await store.put('a', bytesOf(10)), { sizeBytes: 10 });
  }
});

t.test('what is sent bears its digest, so that a store can refuse other bytes', async (t) => {
  const { store, server } = await against(t, ({ body }, response) => {
    response.writeHead(200, { etag: `"${md5(body)}"` });
    response.end();
  });
  const { sha256 } = await store.put('a', bytesOf(1000));
  t.equal(server.asked[0]?.headers['x-amz-content-sha256'], sha256);
  t.match(server.asked[0]?.headers.authorization, /x-amz-content-sha256/);
});

/** Takes uploads in parts; `spoil` may answer instead. */
function uploadAnswer(spoil: (asked: Asked, response: ServerResponse) => boolean): Answer {
  let sizeBytes = 0;
  const md5s: string[] = [];
  return (asked, response) => {
    if (spoil(asked, response)) return;
    const number = /partNumber=(\d+)/.exec(asked.url)?.[1];
    if (asked.method === 'HEAD') {
      response.writeHead(200, {
        'content-length': sizeBytes,
        etag: '"x"',
        'last-modified': new Date(0).toUTCString(),
      });
      response.end();
    } else if (number !== undefined) {
      sizeBytes += asked.body.length;
      md5s[Number(number) - 1] = md5(asked.body);
      response.writeHead(200, { etag: `"${md5s[Number(number) - 1]}"` });
      response.end();
    } else if (asked.url.includes('uploads')) {
      xml(response, '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>');
    } else if (asked.method === 'POST') {
      const tag = `${md5(Buffer.concat(md5s.map((each) => Buffer.from(each, 'hex'))))}-${md5s.length}`;
      xml(response, `<CompleteMultipartUploadResult><ETag>"${tag}"</ETag></CompleteMultipartUploadResult>`);
    } else response.writeHead(204).end();
  };
}

const LARGE = { sizeBytes: 9 * MIB };

t.test(
  'a finish whose answer is lost is looked up, and one that fails inside of 200 is tried again',
  async (t) => {
    let finishes = 0;
    const lost = await against(
      t,
      uploadAnswer(({ method, url }, response) => {
        if (method !== 'POST' || url.includes('uploads')) return false;
        finishes++;
        if (finishes === 1) response.destroy();
        else s3Error(response, 404, 'NoSuchUpload');
        return true;
      }),
    );
    t.match(await lost.store.put('a', bytesOf(LARGE.sizeBytes), LARGE), LARGE);
    let inner = 0;
    const failing = await against(
      t,
      uploadAnswer(({ method, url }, response) => {
        if (method !== 'POST' || url.includes('uploads') || inner++ > 0) return false;
        s3Error(response, 200, 'InternalError');
        return true;
      }),
    );
    t.match(await failing.store.put('a', bytesOf(LARGE.sizeBytes), LARGE), LARGE);
    t.equal(inner, 2);
  },
);

t.test('a part or an object that the store holds differently takes the upload back', async (t) => {
  const spoils: [string, (asked: Asked, response: ServerResponse) => boolean][] = [
    [
      'a part',
      ({ url }, response) => {
        if (!url.includes('partNumber=2')) return false;
        response.writeHead(200, { etag: `"${'0'.repeat(32)}"` }).end();
        return true;
      },
    ],
    [
      'the object',
      ({ method, url }, response) => {
        if (method !== 'POST' || url.includes('uploads')) return false;
        const result = `<CompleteMultipartUploadResult><ETag>"${'0'.repeat(32)}-2"</ETag></CompleteMultipartUploadResult>`;
        xml(response, result);
        return true;
      },
    ],
    [
      'its size',
      ({ method }, response) => {
        if (method !== 'HEAD') return false;
        response.writeHead(200, {
          'content-length': 5,
          etag: '"x"',
          'last-modified': new Date(0).toUTCString(),
        });
        response.end();
        return true;
      },
    ],
  ];
  for (const [name, spoil] of spoils) {
    const { store, server } = await against(t, uploadAnswer(spoil));
    await fails(
      t,
      () => store.put('a', bytesOf(LARGE.sizeBytes), { ...LARGE, onUpload: () => undefined }),
      'DATA_DAMAGED',
    );
    t.ok(
      server.asked.some(({ method }) => method === 'DELETE'),
      name,
    );
  }
});

t.test('a certificate of somebody else is refused, and one of the named authority taken', async (t) => {
  const folder = await folderOf(t);
  const good = certificate(folder, 'good', 'IP:127.0.0.1');
  const elsewhere = certificate(folder, 'elsewhere', 'DNS:other.example');
  const answer: Answer = (_, response) => xml(response, page(['p/a']));
  const caFile = (name: string) => join(folder, `${name}.crt`);
  const unknown = await against(t, answer, { tls: good });
  const error = await fails(t, () => unknown.store.list(), 'UNAVAILABLE', 'tls');
  t.match(error.hint, /caFile/);
  t.equal(unknown.server.asked.length, 0);
  const wrongName = await against(t, answer, { tls: elsewhere, settings: { caFile: caFile('elsewhere') } });
  await fails(t, () => wrongName.store.list(), 'UNAVAILABLE', 'tls');
  const missing = await against(t, answer, { tls: good, settings: { caFile: caFile('none') } });
  await fails(t, () => missing.store.list(), 'UNAVAILABLE', 'tls');
  const known = await against(t, answer, { tls: good, settings: { caFile: caFile('good') } });
  t.equal((await known.store.list()).objects.length, 1);
});

function certificate(folder: string, name: string, subject: string): { key: string; cert: string } {
  const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.crt`)];
  const options = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-days', '2', '-subj', '/CN=test'];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-nodes',
      ...options,
      '-addext',
      `subjectAltName=${subject}`,
      '-keyout',
      key,
      '-out',
      cert,
    ],
    {
      stdio: 'pipe',
    },
  );
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
}

t.test('nothing of the credentials is in an error, even where the server echoes the request', async (t) => {
  const { store, server } = await against(t, ({ headers }, response) =>
    s3Error(
      response,
      403,
      'SignatureDoesNotMatch',
      `You sent ${headers.authorization} ${headers['x-amz-security-token']}`,
    ),
  );
  const file = join(await folderOf(t), 'with-token');
  const token = `token-${'x'.repeat(40)}`;
  writeFileSync(file, `accessKeyId = AKIDOFTHETEST\nsecretAccessKey = ${SECRET}\nsessionToken = ${token}\n`, {
    mode: 0o600,
  });
  const withToken = makeStore(t, { endpoint: server.endpoint, credentialsFile: file }, LIMITS);
  for (const each of [store, withToken]) {
    const error = await fails(t, () => each.list(), 'PERMISSION_DENIED', 'refused');
    const told = `${inspect(error, { depth: 10, showHidden: true })} ${JSON.stringify(error.toBody())}`;
    const signature = /Signature=([0-9a-f]+)/.exec(String(server.asked.at(-1)?.headers.authorization))?.[1];
    for (const secret of [SECRET, token, signature, 'AKIDOFTHETEST', 'test:tester']) {
      t.notOk(told.includes(String(secret)), 'not told');
    }
  }
});
