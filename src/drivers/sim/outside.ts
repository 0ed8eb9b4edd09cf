/**
 * What happens on a simulated host without the agent: by its guests, by other people, by accident.
 *
 * Each takes effect at once and is told in events, as the host would tell it.
 */
import { AgentError } from '../../model/errors.ts';
import type {
  GuestDefinition,
  KeptFile,
  ShapeDisk,
  ShapeNic,
  WatchdogAction,
} from '../contracts/hypervisor.ts';
import { Layout } from '../qcow2/layout.ts';
import { newFile } from './files.ts';
import { noEdits } from './shape.ts';
import { type SimFile, type SimGuest, type SimProcess, type SimTrace, traceKey } from './state.ts';
import { addCounts, NO_DISK_COUNTS, NO_NIC_COUNTS, type SimDiskCounts, type SimNicCounts } from './usage.ts';
import type { SimWorld } from './world.ts';

/** What a device is added to or taken from: the guest's definition, the running guest, or both at once. */
export type Attachable = 'definition' | 'live' | 'both';

export class Outside {
  readonly #world: SimWorld;
  readonly #changed: () => void;

  constructor(world: SimWorld, changed: () => void) {
    this.#world = world;
    this.#changed = changed;
  }

  /**
   * A guest that Berth did not define.
   *
   * @param guest.power @default 'running'
   * @param guest.files Paths that its definition names. @default none
   */
  addForeign(guest: {
    id: string;
    name: string;
    vcpus?: number;
    memoryMib?: number;
    power?: 'running' | 'stopped';
    files?: string[];
  }): void {
    const { id, name, vcpus = 1, memoryMib = 256, power = 'running', files = [] } = guest;
    const made = newGuest({ id, name, vcpus, memoryMib, definition: null, foreignFiles: files });
    this.#world.guests.add(made);
    if (power === 'running') this.#world.guests.powerOn(made);
    this.#changed();
  }

  /** Bits of an object rot: its first byte changes. */
  damageObject(store: string, key: string): void {
    const object = this.#world.bucket(store).objects.get(key);
    if (object === undefined || object.content.length === 0)
      throw new AgentError('NOT_FOUND', `No object ${key}`);
    const content = Uint8Array.from(object.content);
    content[0] = (content[0] ?? 0) ^ 1;
    this.#world.bucket(store).objects.set(key, { ...object, content });
    this.#changed();
  }

  start(id: string): void {
    this.#do(id, (guest) => {
      if (guest.live === null) this.#world.guests.powerOn(guest);
    });
  }

  /** Pulls the plug. */
  stop(id: string): void {
    this.#doRunning(id, (guest) => this.#world.guests.powerOff(guest, 'stopped', 'destroyed'));
  }

  /** The guest's system shuts itself down, after `shutdownMs`. */
  shutDown(id: string): void {
    this.#doRunning(id, (guest) => this.#world.guests.askShutdown(guest));
  }

  pause(id: string): void {
    this.#doRunning(id, (guest) => this.#world.guests.pause(guest));
  }

  resume(id: string): void {
    this.#doRunning(id, (guest) => this.#world.guests.resume(guest));
  }

  /** The guest's process dies. */
  crash(id: string): void {
    this.#doRunning(id, (guest) => this.#world.guests.kill(guest, 'crashed', 'crashed'));
  }

  /** The running guest reads and writes. @param used What is added to the counters of the disk */
  useDisk(id: string, serial: string, used: Partial<SimDiskCounts>): void {
    this.#doRunning(id, ({ live }) => {
      if (live?.usage !== undefined) addCounts(live.usage.disks, serial, used, NO_DISK_COUNTS);
    });
  }

  /** The running guest receives and sends. @param used What is added to the counters of the NIC */
  useNic(id: string, tapName: string, used: Partial<SimNicCounts>): void {
    this.#doRunning(id, ({ live }) => {
      if (live?.usage !== undefined) addCounts(live.usage.nics, tapName, used, NO_NIC_COUNTS);
    });
  }

  /** The guest's kernel panics. */
  panic(id: string): void {
    this.#doRunning(id, (guest) => this.#world.guests.panic(guest));
  }

  /** The guest's watchdog is not fed, and does this. */
  watchdog(id: string, action: WatchdogAction): void {
    this.#doRunning(id, (guest) => this.#world.guests.watchdog(guest, action));
  }

  /** The host boots anew: no guest runs, and what lived in its kernel is gone. Its agent is to be killed before. */
  bootHost(): void {
    const { guests, bridges, devices, settings } = this.#world;
    guests.hostBoots();
    bridges.clear();
    devices.clear();
    settings.stopping = false;
    settings.bootId = `boot-${Number(settings.bootId.split('-')[1]) + 1}`;
    this.#changed();
  }

  /** Whether the host says that it is going down. */
  setHostStopping(stopping: boolean): void {
    this.#world.settings.stopping = stopping;
    this.#changed();
  }

  /** Removes the guest's definition; one that runs goes on without it. */
  undefine(id: string): void {
    this.#do(id, (guest) => this.#world.guests.remove(guest));
  }

  /** Gives the guest another name; a host renames only what does not run. */
  rename(id: string, name: string): void {
    this.#do(id, (guest) => {
      if (guest.live !== null) throw new AgentError('ILLEGAL_STATE', `Guest ${id} runs`);
      this.#world.guests.rename(guest, name);
    });
  }

  /**
   * Changes the guest's definition. @param change.others Changes something that no definition of ours says anything
   * about.
   */
  redefine(id: string, change: { vcpus?: number; memoryMib?: number; others?: true }): void {
    this.#define(id, (guest) => {
      const { others, ...sizes } = change;
      Object.assign(guest, sizes);
      if (others) guest.edits.others++;
    });
  }

  /** Adds a disk: to the definition, to the running guest, or to both. */
  attachDisk(id: string, path: string, to: Attachable): void {
    const disk = { serial: null, path, format: 'raw', readOnly: false };
    if (to !== 'live') this.#define(id, (guest) => guest.edits.disks.push(disk));
    if (to !== 'definition') this.#hotplug(id, (live) => live.disks.push(disk));
  }

  /** Takes a disk out. @param serial The serial of its definition, or the path of one that others attached. */
  detachDisk(id: string, serial: string, from: Attachable): void {
    const isOther = (disk: ShapeDisk) => disk.serial !== serial && disk.path !== serial;
    if (from !== 'live') {
      this.#define(id, ({ edits }) => {
        edits.removed.push(serial);
        edits.disks = edits.disks.filter(isOther);
      });
    }
    if (from !== 'definition')
      this.#hotplug(id, (live) => Object.assign(live, { disks: live.disks.filter(isOther) }));
  }

  attachNic(id: string, nic: ShapeNic, to: Attachable): void {
    if (to !== 'live') this.#define(id, (guest) => guest.edits.nics.push(nic));
    if (to !== 'definition') this.#hotplug(id, (live) => live.nics.push(nic));
  }

  detachNic(id: string, macAddress: string, from: Attachable): void {
    const isOther = (nic: ShapeNic) => nic.macAddress !== macAddress;
    if (from !== 'live') {
      this.#define(id, ({ edits }) => {
        edits.removed.push(macAddress);
        edits.nics = edits.nics.filter(isOther);
      });
    }
    if (from !== 'definition')
      this.#hotplug(id, (live) => Object.assign(live, { nics: live.nics.filter(isOther) }));
  }

  /** A guest, or somebody on the host, puts files into a share. */
  writeIntoShare(path: string, files: number): void {
    const share = this.#world.files.get(path)?.share;
    if (!share) throw new Error(`there is no share ${path}`);
    share.files += files;
    this.#changed();
  }

  /** Takes a share from the running guest alone. */
  detachShare(id: string, tag: string): void {
    this.#hotplug(id, (live) => {
      live.shares = (live.shares ?? []).filter((share) => share.tag !== tag);
    });
  }

  /** Takes our metadata away: the guest is nobody's that we know of. */
  loseMetadata(id: string): void {
    this.#define(id, (guest) => {
      guest.definition = null;
    });
  }

  /** The guest has less memory than it was started with, as its balloon was inflated. */
  balloon(id: string): void {
    this.#hotplug(id, () => undefined);
  }

  /** The host's software is another version, which writes the same definitions in another way. */
  upgrade(writer: string): void {
    this.#world.settings.writer = writer;
    this.#changed();
  }

  /** Whether the guest listens to requests to shut down and to reboot. */
  setObeys(id: string, obeys: boolean): void {
    this.#do(id, (guest) => {
      guest.obeys = obeys;
    });
  }

  /** Whether the guest agent is there and answers. */
  setAgentAnswers(id: string, answers: boolean): void {
    this.#do(id, (guest) => this.#world.guests.setAgent(guest, answers));
  }

  /** A bridge that does not bear our mark. */
  addForeignBridge(name: string): void {
    this.#world.bridges.set(name, { name, plan: null, damaged: [], ports: {} });
    this.#changed();
  }

  /** Takes a part of one of our networks away. */
  damageNetwork(bridge: string, part: 'address' | 'nat' | 'dhcp'): void {
    this.#world.bridges.get(bridge)?.damaged.push(part);
    this.#changed();
  }

  /** Makes the plan of a network unreadable, as where an older version has made its bridge. */
  losePlan(bridge: string): void {
    const lost = this.#world.bridges.get(bridge);
    if (lost !== undefined) lost.planLost = true;
    this.#changed();
  }

  /** Takes away what the pool keeps beside an image or a volume, as where an older version has made it. */
  loseLabel(path: string): void {
    const file = this.#world.files.get(path);
    if (file?.volume) file.volume.label = null;
    if (file?.share) file.share.label = null;
    if (file?.image) file.image.name = null;
    this.#changed();
  }

  /** Replaces what a guest of ours carries as its metadata. */
  setMetadata(id: string, metadata: string): void {
    this.#do(id, (guest) => {
      if (guest.definition !== null) guest.definition.metadata = metadata;
    });
  }

  /** Removes a bridge with all that is on it. */
  removeBridge(name: string): void {
    this.#world.bridges.delete(name);
    this.#changed();
  }

  /** Plugs a device into a bridge. */
  plug(bridge: string, device: string): void {
    this.#world.devices.set(device, bridge);
    this.#changed();
  }

  unplug(device: string): void {
    this.#world.devices.delete(device);
    this.#changed();
  }

  /** Writes the whole console log of an instance, in the pool of this host. */
  writeConsole(id: string, text: string): void {
    const path = new Layout(this.#world.settings.poolRoot).consoleLog(id);
    this.#world.files.remove(path);
    this.#world.guests.writeConsole(id, path, text);
    this.#changed();
  }

  /** Changes bytes of an image in the pool. */
  damageImage(path: string): void {
    const file = this.#world.files.get(path);
    if (file === undefined) throw new AgentError('NOT_FOUND', `No file ${path} on the simulated host`);
    file.changed = true;
    this.#changed();
  }

  /** Brings the bytes of an image back. */
  mendImage(path: string): void {
    const file = this.#world.files.get(path);
    if (file !== undefined) file.changed = false;
    this.#changed();
  }

  /** Deletes a file of the pool. */
  deleteFile(path: string): void {
    this.#world.files.remove(path);
    this.#changed();
  }

  /** A guest that bears our mark, as of an agent that has forgotten it. */
  addOurs(definition: GuestDefinition, power: 'running' | 'stopped' = 'stopped'): void {
    const { id, name, vcpus, memoryMib } = definition;
    const made = newGuest({ id, name, vcpus, memoryMib, definition });
    this.#world.guests.add(made);
    if (power === 'running') this.#world.guests.powerOn(made);
    this.#changed();
  }

  /** A tap that nobody has open, as a hypervisor's that was interrupted. @param bridge @default plugged in nowhere */
  addTap(name: string, bridge = ''): void {
    this.#world.devices.set(name, bridge);
    this.#changed();
  }

  /** A part of a network without the rest. @param trace.marked @default true */
  addTrace(trace: Omit<SimTrace, 'marked'> & { marked?: boolean }): void {
    this.#world.traces.set(traceKey(trace), { marked: true, ...trace });
    this.#changed();
  }

  /** A file of the pool, whatever it is of. */
  addFile(file: Pick<SimFile, 'kind' | 'id' | 'path' | 'sizeBytes'> & Partial<SimFile>): void {
    this.#world.files.put(newFile(file));
    this.#changed();
  }

  /** A file that the hypervisor keeps for a guest by its name. */
  addKept(file: KeptFile): void {
    this.#world.kept.set(file.path, file);
    this.#changed();
  }

  #define(id: string, act: (guest: SimGuest) => void): void {
    this.#do(id, (guest) => {
      if (!guest.persistent) throw new AgentError('ILLEGAL_STATE', `Guest ${id} has no definition`);
      act(guest);
      this.#world.guests.tellDefinition(guest);
    });
  }

  #hotplug(id: string, act: (live: SimProcess) => void): void {
    this.#do(id, (guest) => {
      if (guest.live === null) throw new AgentError('ILLEGAL_STATE', `Guest ${id} does not run`);
      act(guest.live);
      this.#world.guests.tellDefinition(guest);
    });
  }

  #doRunning(id: string, act: (guest: SimGuest) => void): void {
    this.#do(id, (guest) => {
      if (guest.live === null) throw new AgentError('ILLEGAL_STATE', `Guest ${id} does not run`);
      act(guest);
    });
  }

  #do(id: string, act: (guest: SimGuest) => void): void {
    const guest = this.#world.guests.get(id);
    if (guest === undefined) throw new AgentError('NOT_FOUND', `No guest ${id} on the simulated host`);
    act(guest);
    this.#changed();
  }
}

/** A stopped guest, as it is when it has just been defined. */
export function newGuest(
  made: Pick<SimGuest, 'id' | 'name' | 'vcpus' | 'memoryMib' | 'definition'> & Partial<SimGuest>,
): SimGuest {
  return {
    foreignFiles: [],
    persistent: true,
    edits: noEdits(),
    power: 'stopped',
    reason: 'never started',
    live: null,
    booted: false,
    boots: 0,
    pending: null,
    obeys: true,
    agentAnswers: true,
    ...made,
  };
}
