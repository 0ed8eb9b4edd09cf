/** How many chunks are on their way to a store, and from it, at once. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { BackupRepository } from '../../../src/agent/backups/repository.ts';
import type { ObjectBatch, ObjectStore } from '../../../src/drivers/contracts/objects.ts';
import { createSimHost } from '../../../src/drivers/sim/index.ts';
import { MIB } from '../../../src/model/units.ts';
import { spec } from '../support/sim-agent.ts';
import { CLUSTER, Disk } from './disk.ts';

const CHUNK_BYTES = 4 * MIB;
const CHUNKS = 8;

/** Holds back what is done to chunks until so many are under way, and counts them. Too few leave the test unfinished. */
class Crowd {
  readonly #expected: number;
  readonly #gathered = Promise.withResolvers<void>();
  /** Ends of keys that pass: pages of an index are chunks, too. */
  readonly passing = new Set<string>();
  #underWay = 0;
  most = 0;

  constructor(expected: number) {
    this.#expected = expected;
  }

  async hold<R>(key: string, act: () => Promise<R>): Promise<R> {
    if (!key.includes('/chunks/') || this.passing.has(key.split('/').at(-1)!)) return act();
    this.#underWay++;
    this.most = Math.max(this.most, this.#underWay);
    if (this.#underWay === this.#expected) this.#gathered.resolve();
    try {
      await this.#gathered.promise;
      return await act();
    } finally {
      this.#underWay--;
    }
  }
}

/** A store whose writes and reads of chunks go through crowds. */
function crowded(store: ObjectStore, writes: Crowd, reads: Crowd): ObjectStore {
  const batch = (inner: ObjectBatch): ObjectBatch => ({
    sizeOf: (key) => inner.sizeOf(key),
    put: (key, pieces) => writes.hold(key, () => inner.put(key, pieces)),
    settle: () => inner.settle(),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  });
  return new Proxy(store, {
    get(target, name) {
      if (name === 'batch')
        return (...args: Parameters<ObjectStore['batch']>) => batch(target.batch(...args));
      if (name === 'get')
        return (...args: Parameters<ObjectStore['get']>) => reads.hold(args[0], () => target.get(...args));
      const value = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

for (const [underWayBytes, most] of [
  [undefined, 1],
  [4 * CHUNK_BYTES, 4],
] as const) {
  t.test(`of ${underWayBytes ?? 'the usual'} bytes under way ${most} chunks are, either way`, async (t) => {
    const { world, objects } = createSimHost();
    const [writes, reads] = [new Crowd(most), new Crowd(most)];
    const store = crowded(objects.get('backups')!, writes, reads);
    const repository = new BackupRepository({
      store,
      clock: world.clock,
      key: null,
      ...(underWayBytes && { underWayBytes }),
    });
    const disk = new Disk(CHUNKS * CHUNK_BYTES);
    disk.scribble(0, disk.sizeBytes / CLUSTER);
    const [id, instanceId, volumeId] = [randomUUID(), randomUUID(), randomUUID()];
    const volumes = [{ id: volumeId, virtualSizeBytes: disk.sizeBytes, extents: disk.full() }];
    const manifest = await repository.write({ id, instanceId, instance: spec(), parent: null, volumes });
    for (const page of manifest.volumes[0]!.index) reads.passing.add(page);
    await repository.restore({ instanceId, id, volumeId }, new Disk(disk.sizeBytes));
    t.equal(writes.most, most, 'written');
    t.equal(reads.most, most, 'read');
  });
}
