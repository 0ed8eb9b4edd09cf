/** The part of Hypervisor that is about the disks of guests: what they are made of, and what is done to them while they run. */
import type { DiskDevice, VolumeQos } from '../../model/disk.ts';
import type { CallOptions, FlattenOptions, ProgressListener } from './calls.ts';
import type { KeyOfVolume } from './keys.ts';

export type { FlattenOptions } from './calls.ts';

/** What a qcow2 file stands on, to the end of its chain, so that nothing is probed. */
export interface BackingFile {
  path: string;
  format: 'qcow2' | 'raw';
  /** @default null, it stands alone */
  backing?: BackingFile | null;
  /** @default null, it is not encrypted */
  encryption?: KeyOfVolume | null;
}

export interface GuestDisk {
  /** Unique among the guest's disks; the guest sees it as the serial of the disk, at most 20 characters. */
  serial: string;
  path: string;
  format: 'qcow2' | 'raw';
  readOnly: boolean;
  /** Null for a disk that stands alone. */
  backing: BackingFile | null;
  /** @default the host's choice */
  device?: DiskDevice;
  /** @default no limits */
  qos?: VolumeQos | null;
  /** @default null, it is not encrypted */
  encryption?: KeyOfVolume | null;
}

export interface DiskCopy {
  serial: string;
  /** Absolute path of the file to make. */
  path: string;
  /** By which the file is encrypted. @default null, it is not */
  encryption?: KeyOfVolume | null;
}

/** All files of a disk, the one that is written to first. */
export function pathsOf({ path, backing }: Pick<GuestDisk, 'path' | 'backing'>): string[] {
  return backing === null
    ? [path]
    : [path, ...pathsOf({ path: backing.path, backing: backing.backing ?? null })];
}

/** A qcow2 file that a disk is to be written to from now on; it is there, and stands on the one that was. */
export interface DiskOverlay {
  serial: string;
  path: string;
  /** @default null, it is not encrypted */
  encryption?: KeyOfVolume | null;
}

/** Two neighbours in the chain of a disk. */
export interface DiskMerge {
  serial: string;
  /** The file whose data goes into the other one. */
  path: string;
  into: string;
  /** Most bytes that are moved in a second. @default as fast as it goes */
  bytesPerSecond?: number;
}

/** What is copied of the disks of a guest that runs. */
export interface DiskCopies {
  /**
   * The file of each disk, by its serial; it is there, empty and as large as the disk: `StoragePool.prepareCopy`. Without
   * it nothing is copied: INTERNAL.
   */
  copies: readonly DiskCopy[];
  /** A checkpoint: only what has changed since. @default all of it */
  since?: string | undefined;
  /**
   * A checkpoint that is made of the moment of the copy, and is gone on with after it; its name is `berth-` and a
   * UUID. One of this name that is there is forgotten first.
   *
   * @default none
   */
  checkpoint?: string | undefined;
  /** Most that is read in a second, of all disks together. @default no limit */
  bytesPerSecond?: number | undefined;
}

/** A moment since which changes of disks are known. */
export interface GuestCheckpoint {
  name: string;
  /**
   * Those of which all changes since are known, as far as the host can tell; while the guest does not run, only their
   * files can. Bytes are of whole clusters; null while the guest does not run.
   */
  disks: { serial: string; changedBytes: number | null }[];
}

export interface CopyOptions extends CallOptions {
  onProgress?: ProgressListener;
  /** Called once all disks are of one moment, while they are still being copied; where it fails, so does the copy. */
  onMoment?: () => Promise<void>;
}

export interface DiskHypervisor {
  /**
   * Hands the passphrases of encrypted volumes to the host, which keeps them in memory alone: whatever opens a file of
   * theirs needs that before. It is asked for each time, since the host may have been started anew.
   *
   * @throws NOT_FOUND: this node has no such key. PERMISSION_DENIED: the key can't be used. HOST_CONFLICT: something
   *   else has its place.
   */
  giveKeys(volumes: readonly KeyOfVolume[], options?: CallOptions): Promise<void>;
  /** Takes the passphrase of a volume from the host; where there is none it is done. */
  forgetKey(volumeId: string, options?: CallOptions): Promise<void>;
  /** Ids of the volumes whose passphrases the host has. */
  listKeys(options?: CallOptions): Promise<string[]>;
  /**
   * Plugs a disk into a guest that runs; its definition stays. One that has the disk already, or does not run, is left
   * as it is.
   *
   * @throws NOT_FOUND. HOST_CONFLICT: it has another disk with this serial. CAPACITY_EXCEEDED: it has no free slot.
   */
  plugDisk(id: string, disk: GuestDisk, options?: CallOptions): Promise<void>;
  /**
   * Asks a guest that runs to let a disk go, and waits until it has; its definition stays. One that does not have the
   * disk, or does not run, is left as it is.
   *
   * @throws NOT_FOUND. DEADLINE_EXCEEDED: the guest has not let it go, and still has it.
   */
  unplugDisk(id: string, serial: string, options?: CallOptions): Promise<void>;
  /** Grows the disk of a guest that runs, its file included, and tells the guest. @throws ILLEGAL_STATE when not running */
  growDisk(id: string, serial: string, sizeBytes: number, options?: CallOptions): Promise<void>;
  /**
   * Brings all data of a disk of a guest that runs into its own file, while it goes on, and waits until that no longer
   * stands on another one. A job for that which is under way already, as after a crash, is gone on with. One that is
   * aborted goes on without us: `stopFlatten` ends it.
   *
   * @param options.bytesPerSecond At most; null for as fast as it can. @default null
   * @throws NOT_FOUND. ILLEGAL_STATE when not running. UNAVAILABLE: it stopped, or the job ended, before it had all.
   *   HOST_CONFLICT: another job is under way on the disk. CAPACITY_EXCEEDED: no room.
   */
  flattenDisk(id: string, serial: string, options?: CallOptions & FlattenOptions): Promise<void>;
  /** Ends a `flattenDisk` that is under way; where there is none, or no such guest or disk, it is done. */
  stopFlatten(id: string, serial: string, options?: CallOptions): Promise<void>;
  /** Sets the limits of a disk of a guest that runs, all anew. A guest that does not run is left as it is. */
  limitDisk(id: string, serial: string, qos: VolumeQos | null, options?: CallOptions): Promise<void>;

  /**
   * Writes what the disks of a guest that runs hold at one moment, or what of it has changed, into qcow2 files, all of the
   * same moment, while it goes on (`StoragePool.readCopy` reads them). One of before that is under way is ended first. It
   * is as after a loss of power: what the guest has not flushed is not in it (`freezeGuest`).
   *
   * @throws NOT_FOUND. ILLEGAL_STATE when not running, or when it stops meanwhile. CAPACITY_EXCEEDED: no room.
   *   DATA_DAMAGED: what has changed since the checkpoint is not known of all disks.
   */
  copyDisks(id: string, request: DiskCopies, options?: CopyOptions): Promise<void>;
  /**
   * Has the agent of a guest that runs flush and freeze its file systems: nothing in it writes until `thawGuest`. One that
   * does not answer in time is thawed when it has.
   *
   * @throws NOT_FOUND. ILLEGAL_STATE when not running. UNAVAILABLE: no agent answers that could, or the guest is paused.
   */
  freezeGuest(id: string, options?: CallOptions): Promise<void>;
  /**
   * Lets the file systems of a guest go on, as after a crash that came in between. Where it does not run, or is not there,
   * that is done.
   *
   * @returns Whether an agent has answered, which none does in a guest that is paused; where none ever froze the guest that
   *   is no harm.
   */
  thawGuest(id: string, options?: CallOptions): Promise<boolean>;
  /** Ends a `copyDisks` that is under way, as after a crash; where there is none, or no such guest, it is done. */
  stopCopy(id: string, options?: CallOptions): Promise<void>;
  /** The checkpoints that `copyDisks` has made, newest first. @throws NOT_FOUND */
  checkpoints(id: string, options?: CallOptions): Promise<GuestCheckpoint[]>;
  /**
   * Forgets checkpoints that `copyDisks` has made, with all that is kept of changes since them in the disks; those that
   * are left know as much as before. What is not there, the guest included, is done.
   *
   * @param names Null for all.
   * @param options.keys Of its encrypted volumes: while it does not run, nothing is removed from their files without.
   * @throws NOT_FOUND, PERMISSION_DENIED: a key that is missing, or is another one.
   */
  forgetCheckpoints(
    id: string,
    names: readonly string[] | null,
    options?: CallOptions & { keys?: readonly KeyOfVolume[] },
  ): Promise<void>;

  /**
   * Lets the disks of a guest that runs be written to other files, all from one moment on. Those that are already are
   * left as they are; the moment is then that of before.
   *
   * @param options.quiesce The guest's agent flushes and freezes its file systems for the moment.
   * @param options.memoryPath Absolute path of a file for its memory at that moment; it stands still meanwhile.
   * @throws NOT_FOUND. ILLEGAL_STATE when not running. UNAVAILABLE: no agent answers that could quiesce it.
   *   CAPACITY_EXCEEDED: no room for its memory.
   */
  switchDisks(
    id: string,
    overlays: readonly DiskOverlay[],
    options?: CallOptions & { quiesce?: boolean; memoryPath?: string | null },
  ): Promise<void>;
  /**
   * Writes what one file of a disk holds into the one below it, while the guest goes on, and lets it go on without the
   * first one. A merge of the two that is under way is joined. A guest that does not run, or no longer has the file in
   * its chain, is left as it is. Aborting it ends it; nothing is lost by that.
   *
   * @param options.onReady Awaited before the guest goes on without the active file, perhaps several times; where it
   *   rejects, the merge fails, and the guest stays on that file. @default nothing
   * @throws NOT_FOUND. HOST_CONFLICT: the disk has another job.
   */
  mergeDisk(
    id: string,
    merge: DiskMerge,
    options?: CallOptions & { onProgress?: ProgressListener; onReady?: () => Promise<void> },
  ): Promise<void>;
  /** Paths of a disk's chain in the guest that runs, the active one first; null while it does not run, or lacks it. */
  chainOf(id: string, serial: string, options?: CallOptions): Promise<string[] | null>;
  /**
   * Starts a guest that is down with the memory of a file (`switchDisks`), as it is defined now. The file stays. A guest
   * that runs is left as it is. One that goes on so has a generation ID that no guest has had before, whatever its
   * definition says (`ObservedGuest.generationId`).
   *
   * @throws NOT_FOUND: the guest. HOST_CONFLICT: the file is not of a guest with these devices.
   */
  resumeFrom(id: string, memoryPath: string, options?: CallOptions): Promise<void>;
}
