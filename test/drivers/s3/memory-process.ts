/**
 * Moves one object to a server or back, and prints the most memory that its buffers took: a process of its own, so that
 * nothing else is measured.
 *
 *   memory-process.ts put|get ENDPOINT CREDENTIALS_FILE BYTES
 */
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { S3Store } from '../../../src/drivers/s3/store.ts';
import { MIB } from '../../../src/model/units.ts';

const [way = '', endpoint = '', credentialsFile = '', bytes = ''] = process.argv.slice(2);
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

/** Bytes between two looks at what reading holds: the collector frees in the background, and is that much behind. */
const LOOK_BYTES = 2 * MIB;

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

async function read(): Promise<void> {
  let got = 0;
  for await (const { length } of await store.get('large')) {
    got += length;
    if (got % LOOK_BYTES >= length) continue;
    collect();
    look();
  }
}

collect();
const before = process.memoryUsage().arrayBuffers;
if (way === 'put') await store.put('large', source());
else await read();
process.stdout.write(JSON.stringify({ heldBytes: most - before, rssBytes: process.memoryUsage().rss }));
store.close();
