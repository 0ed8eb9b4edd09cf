/**
 * Hypervisor: defines, starts, stops and watches guests.
 *
 * Promises of every implementation (test/drivers/contract/hypervisor.ts proves them):
 *  - `define`, `start`, `destroy`, `undefine` and what changes disks are idempotent: what is so already is answered as done.
 *  - `observe*` tells what the host says now. A guest that does not exist is `null`; a host that cannot
 *    be asked is UNAVAILABLE. The two are never mixed up.
 *  - Guests that Berth did not define are observed with `ours: false`, and every call that would change
 *    one is refused with HOST_CONFLICT.
 *  - A call that hangs delays no call about another guest.
 *  - Events come in the order in which the host reports them. After a lost connection there is one `gap`
 *    event: the listener must observe again.
 *  - A definition that others change is told by a `definition` event: at once where the host tells of it, else
 *    within DEFINITION_NOTICE_MS.
 *  - Closing it touches no guest.
 */
import type { PowerState } from '../../model/instance.ts';
import type { Acceleration } from '../../model/node.ts';
import type { Watchdog } from '../../model/policy.ts';
import type { DiskDevice, VolumeQos } from '../../model/disk.ts';
import type { CallOptions, ProgressListener, Unsubscribe } from './calls.ts';

/** What a qcow2 file stands on, to the end of its chain, so that nothing is probed. */
export interface BackingFile {
  path: string;
  format: 'qcow2' | 'raw';
  /** @default null, it stands alone */
  backing?: BackingFile | null;
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
}

export interface DiskCopy {
  serial: string;
  /** Absolute path of the file to make. */
  path: string;
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
  /** The file of each disk, by its serial; nothing may be there yet. */
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

export interface GuestNic {
  macAddress: string;
  /** Bridge to plug into; exists already. */
  bridge: string;
  /** Name of the tap device, at most 15 characters; made with the guest's start and gone with its stop. */
  tapName: string;
}

/** A folder of the host that the guest mounts by virtiofs. */
export interface GuestShare {
  /** Unique among the guest's shares; what the guest mounts it by. */
  tag: string;
  /** Absolute path of the folder. */
  path: string;
  /** Whether the host keeps the guest from writing, whoever asks in the guest. */
  readOnly: boolean;
}

/** All that a guest's definition is made from; names come from the journal. */
export interface GuestDefinition {
  /** UUID, lower case. */
  id: string;
  name: string;
  vcpus: number;
  memoryMib: number;
  firmware: 'bios' | 'uefi';
  /** In boot order. */
  disks: GuestDisk[];
  nics: GuestNic[];
  /** A guest that is started with any gets memory that it can share with their daemons. @default none */
  shares?: GuestShare[];
  /** Where the serial console is logged; null for none. */
  consoleLogPath: string | null;
  /** What a watchdog device does when the guest stops feeding it. @default 'none', no device */
  watchdog?: Watchdog;
  /** JSON kept with the guest on the host, so that it can be rebuilt without a database (promise 5). */
  metadata: string;
}

/** Longest time until a change of a definition that the host tells nobody of is noticed, milliseconds. */
export const DEFINITION_NOTICE_MS = 60_000;

/** A disk as the host has it. What the host does not say, or says in a way that no definition of ours has, is null. */
export interface ShapeDisk {
  serial: string | null;
  path: string | null;
  format: string | null;
  readOnly: boolean;
}

/** A NIC as the host has it; null as for disks. */
export interface ShapeNic {
  macAddress: string;
  bridge: string | null;
  tapName: string | null;
}

/** A share as the host has it; null as for disks. */
export interface ShapeShare {
  tag: string | null;
  path: string | null;
  readOnly: boolean;
}

export interface GuestDevices {
  disks: ShapeDisk[];
  nics: ShapeNic[];
  /** Absent where it has none. */
  shares?: ShapeShare[];
}

/** The parts of a definition that can be compared one by one, in no host's words. */
export interface GuestShape extends GuestDevices {
  name: string;
  vcpus: number;
  memoryMib: number;
  firmware: 'bios' | 'uefi';
}

/** A definition as the host keeps it for the guest's next start. */
export interface KeptDefinition {
  shape: GuestShape;
  /** Of all of it, what `shape` leaves out included: another digest is another definition. */
  digest: string;
  /** Which software has written it. Another one may write the same definition in another way. */
  writer: string;
}

export interface ObservedGuest {
  id: string;
  name: string;
  ours: boolean;
  power: PowerState;
  /** In the host's words: `booted`, `shut down by the guest`, … */
  reason: string;
  /** There where a stopped guest has shut itself down, as far as the host can tell. */
  stoppedBy?: 'guest';
  /** There where the host was asked to pull its plug, or to pause it, and nothing else has happened since. */
  byRequest?: true;
  vcpus: number;
  memoryMib: number;
  /** What `define` was given; null for a foreign guest. */
  metadata: string | null;
  /** Null for a guest that runs without one, and goes with its stop. */
  definition: KeptDefinition | null;
  /** What the guest runs with; null while it does not run. */
  live: GuestDevices | null;
}

export type GuestEvent =
  /** A guest's power changed, or it was defined or undefined (then `guest` is null). */
  | { type: 'power'; id: string; guest: { power: PowerState; reason: string; stoppedBy?: 'guest' } | null }
  | { type: 'agent'; id: string; connected: boolean }
  /** Its definition, or what it runs with, may have changed: it has to be observed again. */
  | { type: 'definition'; id: string }
  /** The guest went through its reset: it begins to boot again in the same process. */
  | { type: 'rebooted'; id: string }
  /** Its kernel has told that it panicked; the `crashed` that follows is told as a power. */
  | { type: 'panicked'; id: string }
  /** Its watchdog was not fed, and has done this; a poweroff is then told as a crash. */
  | { type: 'watchdog'; id: string; action: WatchdogAction }
  | { type: 'gap' };

/** `other`: what no definition of ours asks for. */
export type WatchdogAction = Exclude<Watchdog, 'none'> | 'other';

export interface GuestAddress {
  interface: string;
  macAddress: string;
  address: string;
  prefix: number;
}

/** What a guest's definition names of the host, the live one and the one for its next start; of foreign guests too. */
export interface GuestUse {
  id: string;
  name: string;
  /** Absolute paths, and names of files in pools of the hypervisor's own. */
  files: string[];
  /** Network devices. */
  devices: string[];
}

/** A file that the hypervisor keeps for a guest by the guest's name. */
export interface KeptFile {
  kind: 'nvram' | 'saved-memory';
  path: string;
  guestName: string;
  sizeBytes: number;
}

export interface HypervisorFacts {
  libvirtVersion: string | null;
  qemuVersion: string | null;
  acceleration: Acceleration;
  /** Why the acceleration is judged so. */
  accelerationReason: string;
  /** Memory that the hypervisor believes the host has, MiB; a source for cross-checking. */
  memoryMib: number;
  cpus: number;
  /** Traits by their standard names. */
  traits: string[];
  /** Whether guests can be given shares, and why, one sentence. @default not told: facts of an older version */
  shares?: { usable: boolean; reason: string };
}

export interface HypervisorHealth {
  connected: boolean;
  /** Milliseconds since the epoch. */
  since: number;
  reason: string;
}

export interface FlattenOptions {
  bytesPerSecond?: number | null;
  onProgress?: ProgressListener;
}

export interface Hypervisor {
  health(): HypervisorHealth;
  onHealth(listener: (health: HypervisorHealth) => void): Unsubscribe;
  subscribe(listener: (event: GuestEvent) => void): Unsubscribe;

  facts(options?: CallOptions): Promise<HypervisorFacts>;
  /** All guests of the host, ours and foreign. */
  observe(options?: CallOptions): Promise<ObservedGuest[]>;
  observeGuest(id: string, options?: CallOptions): Promise<ObservedGuest | null>;

  /**
   * Defines the guest, or brings a definition of ours with this id up to date, its name included. Starts nothing; a
   * guest that runs goes on as it is.
   *
   * @returns The definition as the host keeps it from now on.
   * @throws ALREADY_EXISTS: another guest of ours has the name. ILLEGAL_STATE: it runs under another name, and has to
   *   be stopped first.
   */
  define(definition: GuestDefinition, options?: CallOptions): Promise<KeptDefinition>;
  /** Starts it, or resumes a paused one. @throws NOT_FOUND, CAPACITY_EXCEEDED */
  start(id: string, options?: CallOptions): Promise<void>;
  /** Asks the guest to shut down; does not wait for it. @throws NOT_FOUND, ILLEGAL_STATE when not running */
  requestShutdown(id: string, options?: CallOptions): Promise<void>;
  /** Asks the guest to reboot; does not wait for it. @throws NOT_FOUND, ILLEGAL_STATE when not running */
  requestReboot(id: string, options?: CallOptions): Promise<void>;
  /** Resets the running guest, as its reset button would. @throws NOT_FOUND, ILLEGAL_STATE when not running */
  reset(id: string, options?: CallOptions): Promise<void>;
  /** Pulls the plug. Its definition stays. */
  destroy(id: string, options?: CallOptions): Promise<void>;
  /** Removes the definition of a stopped guest, its NVRAM and checkpoints included. @throws ILLEGAL_STATE while it runs */
  undefine(id: string, options?: CallOptions): Promise<void>;

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
   * Plugs a share into a guest that runs; its definition stays. One that has it already, or does not run, is left as it is.
   *
   * @throws NOT_FOUND. HOST_CONFLICT: it has another share with this tag. CAPACITY_EXCEEDED: it has no free slot.
   *   ILLEGAL_STATE: it was started without a share, and its memory can't be shared until its next start.
   */
  plugShare(id: string, share: GuestShare, options?: CallOptions): Promise<void>;
  /**
   * Asks a guest that runs to let a share go, and waits until it has; its definition stays. One that does not have it,
   * or does not run, is left as it is.
   *
   * @throws NOT_FOUND. DEADLINE_EXCEEDED: the guest has not let it go, and still has it.
   */
  unplugShare(id: string, tag: string, options?: CallOptions): Promise<void>;

  /**
  /**
   * Writes what the disks of a guest that runs hold at one moment, or what of it has changed, into qcow2 files, all of the
   * same moment, while it goes on (`StoragePool.readCopy` reads them). One of before that is under way is ended first. It
   * is as after a loss of power: what the guest has not flushed is not in it.
   *
   * @throws NOT_FOUND. ILLEGAL_STATE when not running, or when it stops meanwhile. CAPACITY_EXCEEDED: no room.
   *   DATA_DAMAGED: what has changed since the checkpoint is not known of all disks.
   */
  copyDisks(
    id: string,
    request: DiskCopies,
    options?: CallOptions & { onProgress?: ProgressListener },
  ): Promise<void>;
  /** Ends a `copyDisks` that is under way, as after a crash; where there is none, or no such guest, it is done. */
  stopCopy(id: string, options?: CallOptions): Promise<void>;
  /** The checkpoints that `copyDisks` has made, newest first. @throws NOT_FOUND */
  checkpoints(id: string, options?: CallOptions): Promise<GuestCheckpoint[]>;
  /**
   * Forgets checkpoints that `copyDisks` has made, with all that is kept of changes since them in the disks; those that
   * are left know as much as before. What is not there, the guest included, is done.
   *
   * @param names Null for all.
   */
  forgetCheckpoints(id: string, names: readonly string[] | null, options?: CallOptions): Promise<void>;

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
   * @throws NOT_FOUND. HOST_CONFLICT: the disk has another job.
   */
  mergeDisk(
    id: string,
    merge: DiskMerge,
    options?: CallOptions & { onProgress?: ProgressListener },
  ): Promise<void>;
  /** Paths of a disk's chain in the guest that runs, the active one first; null while it does not run, or lacks it. */
  chainOf(id: string, serial: string, options?: CallOptions): Promise<string[] | null>;
  /**
   * Starts a guest that is down with the memory of a file (`switchDisks`), as it is defined now. The file stays. A guest
   * that runs is left as it is.
   *
   * @throws NOT_FOUND: the guest. HOST_CONFLICT: the file is not of a guest with these devices.
   */
  resumeFrom(id: string, memoryPath: string, options?: CallOptions): Promise<void>;

  /** What the guest agent says. @throws UNAVAILABLE when none answers in time */
  guestAddresses(id: string, options?: CallOptions): Promise<GuestAddress[]>;

  /** What every guest of the host uses, so that nothing in use is taken for a leftover. */
  uses(options?: CallOptions): Promise<GuestUse[]>;
  /** Files that are kept for guests by their names, whether or not the guests are there. */
  listKept(options?: CallOptions): Promise<KeptFile[]>;
  /** Where such files of a guest lie; pure. */
  keptPaths(guestName: string): Record<KeptFile['kind'], string>;

  close(): Promise<void>;
}
