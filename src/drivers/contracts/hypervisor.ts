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
import type { HostDevice, NumaNode } from '../../model/topology.ts';
import type { CallOptions, Unsubscribe } from './calls.ts';
import type { DiskHypervisor, GuestDisk } from './hypervisor-disks.ts';
import type { UsageReader } from './hypervisor-usage.ts';

export * from './hypervisor-disks.ts';
export * from './hypervisor-usage.ts';

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
  /**
   * UUID by which the guest's system learns that it was taken back to a moment of before: it is another one then.
   *
   * @default `id`
   */
  generationId?: string;
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
  /** Of what its passphrase is, where it is encrypted: the volume's id. @default it is not encrypted */
  keyOf?: string;
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
  /** Of the running guest, else of its definition; null where it has none. */
  generationId: string | null;
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
  /** NUMA nodes as the hypervisor sees them; a source for cross-checking. @default not told: facts of an older version */
  numaNodes?: NumaNode[];
}

export interface HypervisorHealth {
  connected: boolean;
  /** Milliseconds since the epoch. */
  since: number;
  reason: string;
}

export interface Hypervisor extends DiskHypervisor, UsageReader {
  health(): HypervisorHealth;
  onHealth(listener: (health: HypervisorHealth) => void): Unsubscribe;
  subscribe(listener: (event: GuestEvent) => void): Unsubscribe;

  facts(options?: CallOptions): Promise<HypervisorFacts>;
  /** Devices of the host that guests could be given, by address; none where the host does not list them. */
  devices(options?: CallOptions): Promise<HostDevice[]>;
  /** Calls back when they may have changed, also after a lost connection. */
  onDevices(listener: () => void): Unsubscribe;
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
  /** What the guest agent says. @throws UNAVAILABLE when none answers in time */
  guestAddresses(id: string, options?: CallOptions): Promise<GuestAddress[]>;

  /**
   * Copies the firmware variables of a guest, running or not, to a new file, which is durable then and for the agent
   * alone. One that is there already is left as it is.
   *
   * @param path Absolute path.
   * @returns Whether there are any: none are of a BIOS guest, and of one that was never started.
   * @throws NOT_FOUND: the guest. HOST_CONFLICT: there is something else in the place of them. UNAVAILABLE: the guest
   *   writes to them all the time.
   */
  keepNvram(id: string, path: string, options?: CallOptions): Promise<boolean>;
  /** The same for a copy that is kept up: one that is there is replaced where the guest has written since, and only then. */
  copyNvram(id: string, path: string, options?: CallOptions): Promise<boolean>;
  /**
   * Puts the firmware variables of such a file in the place of those that a guest has. The file stays.
   *
   * @throws NOT_FOUND: the guest, or the file. ILLEGAL_STATE: it runs.
   */
  restoreNvram(id: string, path: string, options?: CallOptions): Promise<void>;
  /**
   * The same with bytes that come from elsewhere, as a backup of another host does.
   *
   * @throws NOT_FOUND: the guest. ILLEGAL_STATE: it runs. INVALID_ARGUMENT: no flash has so many. UNSUPPORTED: the firmware of
   *   this host has another size of them.
   */
  writeNvram(id: string, bytes: Uint8Array, options?: CallOptions): Promise<void>;

  /** What every guest of the host uses, so that nothing in use is taken for a leftover. */
  uses(options?: CallOptions): Promise<GuestUse[]>;
  /** Files that are kept for guests by their names, whether or not the guests are there. */
  listKept(options?: CallOptions): Promise<KeptFile[]>;
  /** Where such files of a guest lie; pure. */
  keptPaths(guestName: string): Record<KeptFile['kind'], string>;

  close(): Promise<void>;
}
