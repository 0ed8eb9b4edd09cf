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

export interface GuestDisk {
  /** Unique among the guest's disks; the guest sees it as the serial of the disk, at most 20 characters. */
  serial: string;
  path: string;
  format: 'qcow2' | 'raw';
  readOnly: boolean;
  /** Chain below a qcow2 overlay, so that nothing is probed; null for a disk that stands alone. */
  backing: { path: string; format: 'qcow2' | 'raw' } | null;
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

export interface GuestDevices {
  disks: ShapeDisk[];
  nics: ShapeNic[];
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
}

export interface HypervisorHealth {
  connected: boolean;
  /** Milliseconds since the epoch. */
  since: number;
  reason: string;
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
  /** Sets the limits of a disk of a guest that runs, all anew. A guest that does not run is left as it is. */
  limitDisk(id: string, serial: string, qos: VolumeQos | null, options?: CallOptions): Promise<void>;

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
