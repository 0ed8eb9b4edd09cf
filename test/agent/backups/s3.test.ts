/**
 * Backups on a real S3 server: a chain over a disk of several GiB, restored into a sparse file by a process that knows
 * nothing but the store.
 */
import { createHash, randomUUID } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { KEY_BYTES } from '../../../src/agent/backups/codec.ts';
import { BackupRepository } from '../../../src/agent/backups/repository.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { SparseFile } from '../../../src/drivers/host/sparse-file.ts';
import type { BackupManifest } from '../../../src/model/backup.ts';
import { GIB, MIB } from '../../../src/model/units.ts';
import { startS3Server } from '../../drivers/s3/server/s3-server.ts';
import { spec } from '../support/sim-agent.ts';
import { CLUSTER, Disk } from './disk.ts';

const VIRTUAL_BYTES = 2 * GIB;
const BLOCK_BYTES = 512;
const PIECE_BYTES = 4 * MIB;
const ZEROS = Buffer.alloc(PIECE_BYTES);

t.test('a chain on a real server gives back each state of a disk of 2 GiB, byte for byte', async (t) => {
  const server = await startS3Server(t);
  const key = Buffer.alloc(KEY_BYTES, 9);
  const repository = async () =>
    new BackupRepository({ store: await server.store({ prefix: 'node/' }), clock: systemClock, key });
  const disk = new Disk(VIRTUAL_BYTES);
  const [instanceId, volumeId] = [randomUUID(), randomUUID()];
  disk.scribble(0, 40);
  disk.scribble(32_000, 30);
  const states: { id: string; sha256: string }[] = [];
  let parent: BackupManifest | null = null;
  for (let round = 0; round < 3; round++) {
    parent = await (await repository()).write({
      id: randomUUID(),
      instanceId,
      instance: spec(),
      parent,
      volumes: [
        {
          id: volumeId,
          virtualSizeBytes: VIRTUAL_BYTES,
          extents: round === 0 ? disk.full() : disk.changed(),
        },
      ],
    });
    states.push({ id: parent.id, sha256: digestOfDisk(disk) });
    disk.scribble(20_000 + round, 3);
    disk.set(5 + round, null);
  }
  for (const [i, { id, sha256 }] of states.entries()) {
    const file = join(server.folder, `restored-${i}.raw`);
    const restoring = await repository();
    {
      await using sink = await SparseFile.create(file, VIRTUAL_BYTES);
      await restoring.restore({ instanceId, id, volumeId }, sink);
      await sink.finish();
    }
    t.equal(digestOfFile(file), sha256);
    const { size, blocks } = await stat(file);
    t.equal(size, VIRTUAL_BYTES);
    t.ok(blocks * BLOCK_BYTES < 16 * MIB, 'holes stay holes');
  }
  const last = await repository();
  await last.verify({ instanceId, id: states.at(-1)?.id ?? '' });
  t.equal((await last.collect()).removedChunks, 0);
});

/** Differs where any byte does; a piece of zeros is hashed as a word, which is faster. */
class PieceHash {
  readonly #hash = createHash('sha256');

  update(piece: Buffer): void {
    if (piece.equals(ZEROS)) this.#hash.update('zero');
    else this.#hash.update('data').update(piece);
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

function digestOfFile(path: string): string {
  const hash = new PieceHash();
  const piece = Buffer.alloc(PIECE_BYTES);
  const file = openSync(path, 'r');
  while (readSync(file, piece) > 0) hash.update(piece);
  closeSync(file);
  return hash.digest();
}

function digestOfDisk(disk: Disk): string {
  const hash = new PieceHash();
  const perPiece = PIECE_BYTES / CLUSTER;
  for (let first = 0; first < VIRTUAL_BYTES / CLUSTER; first += perPiece) {
    const piece = Buffer.alloc(PIECE_BYTES);
    for (let i = 0; i < perPiece; i++) disk.clusters.get(first + i)?.copy(piece, i * CLUSTER);
    hash.update(piece);
  }
  return hash.digest();
}
