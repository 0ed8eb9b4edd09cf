import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { BUFFER_BYTES_LIMIT } from '../../../src/drivers/contracts/objects.ts';
import { GIB, MIB } from '../../../src/model/units.ts';
import { type Answer, fakeServer, xml } from './server/fake-server.ts';
import { credentialsFile } from './server/s3-server.ts';

/** What sockets hold, and the source's own piece. */
const SLACK_BYTES = 8 * MIB;
const TIMEOUT_MS = 300_000;

/** Takes an upload of any size, and gives an object of 1 GiB. */
const answer: Answer = ({ method, url, body }, response) => {
  if (method === 'PUT') {
    response.writeHead(200, { etag: `"${createHash('md5').update(body).digest('hex')}"` }).end();
  } else if (method === 'POST' && url.includes('uploads')) {
    xml(response, '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>');
  } else if (method === 'POST') {
    xml(response, '<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>');
  } else {
    const headers = { 'content-length': GIB, etag: '"x"', 'last-modified': new Date(0).toUTCString() };
    response.writeHead(200, headers);
    if (method === 'GET') flood(response, GIB);
    else response.end();
  }
};

const LIMITS = { put: BUFFER_BYTES_LIMIT + SLACK_BYTES, get: SLACK_BYTES };
for (const [way, limit] of Object.entries(LIMITS)) {
  t.test(`an object of 1 GiB, its length not known, moves by ${way} within its buffers`, async (t) => {
    const { endpoint } = await fakeServer(t, answer);
    const credentials = await credentialsFile(t.testdir());
    const script = join(import.meta.dirname, 'memory-process.ts');
    const args = [
      '--expose-gc',
      '--conditions=berth-source',
      script,
      way,
      endpoint,
      credentials,
      String(GIB),
    ];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: TIMEOUT_MS });
    const { heldBytes } = JSON.parse(stdout) as { heldBytes: number };
    t.comment(stdout);
    t.ok(heldBytes <= limit, `${heldBytes} of ${limit} bytes`);
  });
}

function flood(response: NodeJS.WritableStream, total: number): void {
  const piece = Buffer.alloc(MIB, 7);
  let sent = 0;
  const more = () => {
    while (sent < total) {
      sent += piece.length;
      if (!response.write(piece)) return;
    }
    response.end();
  };
  response.on('drain', more);
  more();
}
