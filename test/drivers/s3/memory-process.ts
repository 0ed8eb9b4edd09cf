/**
 * Moves one object to a server and back, and prints the most memory that its buffers took: a process of its own, so
 * that nothing else is measured.
 *
 *   memory-process.ts ENDPOINT CREDENTIALS_FILE BYTES
 */
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { S3Store } from '../../../src/drivers/s3/store.ts';
import { MIB } from '../../../src/model/units.ts';

const [endpoint = '', credentialsFile = '', bytes = ''] = process.argv.slice(2);
const total = Number(bytes);
const store = new S3Store({
  settings: {
    name: 'm',
    endpoint,
    region: 'us-east-1',
    bucket: 'berth',
    prefix: '',
    pathStyle: true,
    credentialsFile,
  },
  clock: systemClock,
  random: Math.random,
});
await store.head('warm-up');

/** Bytes between two looks at what reading holds. */
const LOOK_BYTES = 16 * MIB;

let most = 0;
const look = () => {
  most = Math.max(most, process.memoryUsage().arrayBuffers);
};
/** What is held, and not what the collector has left lying. */
const collect = (globalThis as { gc?: () => void }).gc ?? (() => undefined);
const piece = Buffer.alloc(MIB, 7);
async function* source() {
  for (let sent = 0; sent < total; sent += piece.length) {
    look();
    yield piece;
  }
}

collect();
const before = process.memoryUsage().arrayBuffers;
await store.put('large', source());
const put = most - before;
most = 0;
let read = 0;
for await (const got of await store.get('large')) {
  read += got.length;
  if (read % LOOK_BYTES >= got.length) continue;
  collect();
  look();
}
process.stdout.write(JSON.stringify({ put, get: most - before, read, rss: process.memoryUsage().rss }));
store.close();
