/**
 * File systems by the number that statfs(2) gives them: which they are, and whether other hosts may have them, too. Pure.
 *
 * What comes by FUSE (GlusterFS, SeaweedFS and others, but local ones as well) does not tell: it counts as not shared.
 * @see linux/magic.h; fs/smb/client/cifsfs.c; fs/gfs2, fs/ocfs2, fs/lustre
 */
const LOCAL: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x01021994, 'tmpfs'],
  [0x2fc12fc1, 'zfs'],
  [0xf2f52010, 'f2fs'],
  [0x794c7630, 'overlay'],
  [0x65735546, 'fuse'],
]);

const SHARED: ReadonlyMap<number, string> = new Map([
  [0x6969, 'nfs'],
  [0xff534d42, 'cifs'],
  [0xfe534d42, 'smb2'],
  [0x00c36400, 'ceph'],
  [0x01161970, 'gfs2'],
  [0x7461636f, 'ocfs2'],
  [0x0bd00bd0, 'lustre'],
  [0x19830326, 'beegfs'],
  [0x01021997, '9p'],
  [0x5346414f, 'afs'],
]);

export function fileSystemOf(type: number): { name: string | null; shared: boolean } {
  // The kernel's number has a sign on some machines.
  const magic = type >>> 0;
  const shared = SHARED.get(magic);
  return shared === undefined
    ? { name: LOCAL.get(magic) ?? null, shared: false }
    : { name: shared, shared: true };
}
