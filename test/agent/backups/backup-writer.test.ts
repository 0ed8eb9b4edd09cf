/** How the writer of a backup keeps the store and the processor at work at once. */
import { once } from 'node:events';
import t from 'tap';
import { BackupWriter } from '../../../src/agent/backups/backup-writer.ts';
import { Chunks } from '../../../src/agent/backups/chunks.ts';
import { Codec } from '../../../src/agent/backups/codec.ts';
import { CHUNK_BYTES } from '../../../src/agent/backups/packer.ts';
import { VolumeReader } from '../../../src/agent/backups/volume-reader.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import type { DiskExtent } from '../../../src/drivers/contracts/extents.ts';
import type { ObjectBatch } from '../../../src/drivers/contracts/objects.ts';
import { createSimHost } from '../../../src/drivers/sim/index.ts';

const CHUNKS = 3;

async function* extents(): AsyncGenerator<DiskExtent> {
  for (let place = 0; place < CHUNKS; place++)
    yield { type: 'data', offset: place * CHUNK_BYTES, data: Buffer.alloc(CHUNK_BYTES, place + 1) };
}

t.test(
  'a chunk is digested while the one before is on its way to the store',
  { timeout: 60_000 },
  async (t) => {
    const told = new EventTarget();
    const { objects } = createSimHost({ clock: systemClock });
    const [store] = objects.values();
    const chunks = new Chunks(store!, new Codec(null), 'backups');
    let digested = 0;
    const idOf = chunks.idOf.bind(chunks);
    t.intercept(chunks, 'idOf', {
      value: (plain: Uint8Array) => {
        if (++digested === 2) told.dispatchEvent(new Event('second'));
        return idOf(plain);
      },
    });
    const second = once(told, 'second');
    const put: string[] = [];
    const batch: ObjectBatch = {
      sizeOf: async () => null,
      async put(key) {
        await second; // for ever, were it digested in its turn
        put.push(key);
      },
      settle: async () => undefined,
      [Symbol.asyncDispose]: async () => undefined,
    };
    const reader = new VolumeReader(chunks, CHUNK_BYTES);
    const writer = new BackupWriter({
      chunks,
      reader,
      batch,
      mayGoOn: () => undefined,
      limitBytes: CHUNK_BYTES,
      options: {},
    });
    const volume = { id: 'v', virtualSizeBytes: CHUNKS * CHUNK_BYTES, extents: extents() };
    const { dataBytes, index } = await writer.volume(volume, null);
    t.equal(dataBytes, CHUNKS * CHUNK_BYTES);
    t.equal(put.length, CHUNKS + index.length, 'each chunk once, and the page of the index');
  },
);
