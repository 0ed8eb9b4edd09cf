/**
 * A pool on NFS, with the kernel's own client and server: those of a guest, since not every machine's kernel has them.
 */
import { join } from 'node:path';
import t from 'tap';
import { cannotFurnish, runFurnished } from './support/furnished.ts';
import type { Seen } from './support/nfs-in-guest.ts';
import { cannotRun, RealNode, ROOT } from './support/node.ts';

/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const GIB = 1024 ** 3;
const NOBODY = 65_534;
const FURNITURE = {
  entry: 'nfs-in-guest.ts',
  unpacked: join(ROOT, 'build/nfs'),
  tools: [
    '/sbin/mount.nfs',
    '/usr/sbin/rpc.nfsd',
    '/usr/sbin/rpc.mountd',
    '/usr/sbin/exportfs',
    '/usr/sbin/mkfs.ext4',
    '/usr/bin/mount',
    '/usr/bin/chown',
    '/usr/bin/qemu-img',
    '/usr/bin/qemu-io',
    '/usr/bin/prlimit',
    '/usr/bin/unshare',
    '/usr/bin/setpriv',
  ],
  modules: ['nfsv4', 'nfsd'],
  files: { '/etc/exports': '', '/etc/services': 'nfs 2049/tcp\n' },
};

const skip = cannotRun() || cannotFurnish(FURNITURE);
const node = new RealNode();
t.teardown(() => (skip ? undefined : node.remove()));

t.test(
  'a pool is mounted from an NFS server, used, and survives that it is away',
  { skip, timeout: TEST_MS },
  async (t) => {
    const { code, output } = await runFurnished(node, 'e2e-nfs', FURNITURE);
    if (code !== 0) throw new Error(output);
    const seen = JSON.parse(output) as Seen;
    t.equal(seen.mounts.length, 1, 'what is mounted is not mounted again');
    t.match(seen.mounts[0], / rw,nosuid,nodev,noexec.* nfs4 127\.0\.0\.1:.*\bhard\b/);
    t.equal(seen.fileSystem, 'nfs');
    t.ok(seen.roomBytes > GIB && seen.roomBytes < 2 * GIB, 'its room is that of the export');
    t.equal(seen.ownerOfDisk, NOBODY, 'a disk can be given to the user of QEMU');
    t.match(seen.secondWriter, /Failed to get "write" lock/, 'QEMU locks disks there, too');
    t.same(seen.away, { ended: ['DEADLINE_EXCEEDED'], later: 'UNAVAILABLE', otherPool: 'done' });
    t.equal(seen.after.volumes.length, 1);
    t.equal(seen.after.sizeBytes, GIB);
    const { races, agree, late } = seen.sharing;
    t.ok(
      races.every((ends) => /^(?!done)\w+,done$/.test(ends)),
      `one of two gets a volume: ${races}`,
    );
    t.ok(agree.every(Boolean), 'and all see that at once');
    t.equal(late, 'STALE', 'the old node has written that its fences have ended');
    t.match(seen.refused, {
      'an export that is not there': 'UNAVAILABLE',
      'one that takes the rights of root': /^UNAVAILABLE: .*no_root_squash/,
      'one where another is': 'HOST_CONFLICT',
      'a port that nobody listens on': 'UNAVAILABLE',
    });
  },
);
