import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { BUFFER_BYTES_LIMIT } from '../../../src/drivers/contracts/objects.ts';
import { GIB, MIB } from '../../../src/model/units.ts';
import { fakeServer, xml } from './server/fake-server.ts';
import { credentialsFile } from './server/s3-server.ts';

/** What sockets hold, and the source's own piece. */
const SLACK_BYTES = 8 * MIB;
const TIMEOUT_MS = 300_000;

t.test('an object of 1 GiB of unknown length moves both ways with 32 MiB of buffers', async (t) => {
  let sizeBytes = 0;
  const { endpoint } = await fakeServer(t, ({ method, url, body }, response) => {
    if (method === 'PUT') {
      sizeBytes += body.length;
      response.writeHead(200, { etag: `"${createHash('md5').update(body).digest('hex')}"` }).end();
    } else if (method === 'POST' && url.includes('uploads')) {
      xml(response, '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>');
    } else if (method === 'POST') {
      xml(response, '<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>');
    } else {
      const headers = {
        'content-length': sizeBytes,
        etag: '"x"',
        'last-modified': new Date(0).toUTCString(),
      };
      response.writeHead(200, headers);
      if (method === 'GET') flood(response, sizeBytes);
      else response.end();
    }
  });
  const credentials = await credentialsFile(t.testdir());
  const script = join(import.meta.dirname, 'memory-process.ts');
  const args = ['--expose-gc', '--conditions=berth-source', script, endpoint, credentials, String(GIB)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: TIMEOUT_MS });
  const { put, get, read } = JSON.parse(stdout) as Record<string, number>;
  t.equal(sizeBytes, GIB);
  t.equal(read, GIB);
  t.comment(stdout);
  t.ok((put ?? 0) <= BUFFER_BYTES_LIMIT + SLACK_BYTES, `put: ${put}`);
  t.ok((get ?? 0) <= SLACK_BYTES, `get: ${get}`);
});

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
