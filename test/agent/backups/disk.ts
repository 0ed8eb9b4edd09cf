/**
 * A disk in memory that knows what was written since it was last asked: what a hypervisor with dirty bitmaps tells.
 */
import { randomBytes } from 'node:crypto';
import type { DiskExtent, DiskSink } from '../../../src/drivers/contracts/extents.ts';

/** A cluster of QEMU's. */
export const CLUSTER = 64 * 1024;
const ZEROS = Buffer.alloc(CLUSTER);

export class Disk implements DiskSink {
  readonly sizeBytes: number;
  readonly clusters = new Map<number, Buffer>();
  readonly #dirty = new Set<number>();

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** Fills whole clusters; null for zeros. */
  set(cluster: number, content: Buffer | null): void {
    this.#dirty.add(cluster);
    if (content === null) this.clusters.delete(cluster);
    else this.clusters.set(cluster, content);
  }

  scribble(cluster: number, count = 1): void {
    for (let i = 0; i < count; i++) this.set(cluster + i, randomBytes(CLUSTER));
  }

  async *full(): AsyncGenerator<DiskExtent> {
    this.#dirty.clear();
    for (const cluster of sorted(this.clusters.keys())) {
      yield { type: 'data', offset: cluster * CLUSTER, data: this.clusters.get(cluster) as Buffer };
    }
  }

  async *changed(): AsyncGenerator<DiskExtent> {
    const dirty = sorted(this.#dirty);
    this.#dirty.clear();
    for (const cluster of dirty) {
      const data = this.clusters.get(cluster);
      const offset = cluster * CLUSTER;
      yield data === undefined ? { type: 'zero', offset, length: CLUSTER } : { type: 'data', offset, data };
    }
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; ) {
      const cluster = Math.floor((offset + at) / CLUSTER);
      const inside = (offset + at) % CLUSTER;
      const content = Buffer.from(this.clusters.get(cluster) ?? ZEROS);
      const taken = data.subarray(at, at + CLUSTER - inside);
      content.set(taken, inside);
      this.clusters.set(cluster, content);
      at += taken.length;
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += CLUSTER) this.clusters.delete((offset + at) / CLUSTER);
  }

  equals(other: Disk): boolean {
    const data = (disk: Disk) => [...disk.clusters].filter(([, content]) => !content.equals(ZEROS));
    const [mine, theirs] = [data(this), new Map(data(other))];
    return (
      mine.length === theirs.size && mine.every(([cluster, content]) => theirs.get(cluster)?.equals(content))
    );
  }
}

function sorted(clusters: Iterable<number>): number[] {
  return [...clusters].sort((a, b) => a - b);
}
