/**
 * SimHypervisor: the Hypervisor contract on a simulated host.
 *
 * Guests are the world's (guests.ts); this is the connection to it, with its health, its deadlines and its
 * refusals. Closing it, or killing the process that it stands for, touches no guest.
 */
import { AgentError } from '../../model/errors.ts';
import type { VolumeQos } from '../../model/disk.ts';
import type { CallOptions, Unsubscribe } from '../contracts/calls.ts';
import type {
  DiskCopies,
  GuestAddress,
  GuestCheckpoint,
  GuestDefinition,
  GuestDisk,
  GuestEvent,
  GuestUse,
  Hypervisor,
  HypervisorFacts,
  HypervisorHealth,
  KeptDefinition,
  KeptFile,
  ObservedGuest,
  ShapeDisk,
} from '../contracts/hypervisor.ts';
import { changedBytes, deltaOf, isKnown, track, untrack } from './bitmaps.ts';
import { type Attachment, type CallRequest, Calls } from './call.ts';
import { checkDefinition, checkDisk } from './definition.ts';
import type { CallName } from './faults.ts';
import { pathsOf } from './guests.ts';
import { newGuest } from './outside.ts';
import { keptOf, noEdits } from './shape.ts';
import type { SimFile, SimGuest } from './state.ts';
import type { SimWorld } from './world.ts';

/** What a guest's power has for a reason when the host was asked for it. */
const REQUESTED: ReadonlySet<string> = new Set(['destroyed', 'paused by the user']);

type GuestCall = Extract<CallName, `hypervisor.${string}`>;

export class SimHypervisor implements Hypervisor {
  readonly #world: SimWorld;
  readonly #attachment: Attachment;
  readonly #calls: Calls;
  readonly #listeners = new Set<(event: GuestEvent) => void>();
  readonly #healthListeners = new Set<(health: HypervisorHealth) => void>();
  readonly #ends: Unsubscribe[];
  #health: HypervisorHealth;
  #closed = false;

  constructor(world: SimWorld, attachment: Attachment) {
    this.#world = world;
    this.#attachment = attachment;
    this.#calls = new Calls(world, 'hypervisor', attachment);
    this.#health = this.#lookHealth();
    this.#ends = [
      world.guests.listen((event) => this.#onGuestEvent(event)),
      world.faults.onCutOff((driver) => {
        if (driver === 'hypervisor') this.#onCutOff();
      }),
    ];
  }

  health(): HypervisorHealth {
    return this.#health;
  }

  onHealth(listener: (health: HypervisorHealth) => void): Unsubscribe {
    this.#healthListeners.add(listener);
    return () => void this.#healthListeners.delete(listener);
  }

  subscribe(listener: (event: GuestEvent) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  facts(options?: CallOptions): Promise<HypervisorFacts> {
    const { settings } = this.#world;
    return this.#ask('hypervisor.facts', null, options, () => ({
      libvirtVersion: null,
      qemuVersion: null,
      acceleration: settings.acceleration,
      accelerationReason: 'set by the simulation',
      memoryMib: settings.memoryMib,
      cpus: settings.cpus,
      traits: [...settings.traits],
    }));
  }

  observe(options?: CallOptions): Promise<ObservedGuest[]> {
    return this.#ask('hypervisor.observe', null, options, () =>
      Array.from(this.#world.guests.all(), (guest) => this.#observed(guest)),
    );
  }

  observeGuest(id: string, options?: CallOptions): Promise<ObservedGuest | null> {
    return this.#ask('hypervisor.observeGuest', id, options, () => {
      const guest = this.#world.guests.get(id);
      return guest === undefined ? null : this.#observed(guest);
    });
  }

  define(definition: GuestDefinition, options?: CallOptions): Promise<KeptDefinition> {
    return this.#change('hypervisor.define', definition.id, options, (guest) => {
      checkDefinition(definition);
      this.#checkName(definition, guest);
      const kept = structuredClone(definition);
      const { id, name, vcpus, memoryMib } = kept;
      const defined = guest ?? newGuest({ id, name, vcpus, memoryMib, definition: kept });
      if (guest === null) this.#world.guests.add(defined);
      else this.#redefine(guest, kept);
      return keptOf(defined, this.#world.settings.writer) as KeptDefinition;
    });
  }

  start(id: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.start', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.power === 'running') return;
      if (guest.power === 'stopping') throw illegal(guest, 'it is shutting down');
      if (guest.power === 'paused') this.#world.guests.resume(guest);
      else this.#world.guests.powerOn(guest);
    });
  }

  requestShutdown(id: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.requestShutdown', id, options, (guest) =>
      this.#world.guests.askShutdown(running(guest, id)),
    );
  }

  requestReboot(id: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.requestReboot', id, options, (guest) =>
      this.#world.guests.askReboot(running(guest, id)),
    );
  }

  reset(id: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.reset', id, options, (guest) =>
      this.#world.guests.reset(running(guest, id)),
    );
  }

  destroy(id: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.destroy', id, options, (guest) => {
      if (guest !== null && guest.live !== null) this.#world.guests.powerOff(guest, 'stopped', 'destroyed');
    });
  }

  undefine(id: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.undefine', id, options, (guest) => {
      if (guest === null) return;
      if (guest.live !== null) throw illegal(guest, `it is ${guest.power}`);
      this.#world.guests.remove(guest);
    });
  }

  plugDisk(id: string, disk: GuestDisk, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.plugDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      const before = liveDisk(guest, disk.serial);
      if (before === undefined) return this.#world.guests.plug(guest, disk);
      if (before.path === disk.path) return;
      throw new AgentError('HOST_CONFLICT', `Guest ${id} has another disk with the serial ${disk.serial}`);
    });
  }

  unplugDisk(id: string, serial: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.unplugDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      const disk = liveDisk(guest, serial);
      if (disk === undefined) return;
      if (guest.booted && guest.obeys) return this.#world.guests.unplug(guest, disk);
      throw new AgentError('DEADLINE_EXCEEDED', `Guest ${id} has not let the disk go, and still has it`);
    });
  }

  growDisk(id: string, serial: string, sizeBytes: number, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.growDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      const volume = this.#world.files.get(plugged(guest, serial).path ?? '')?.volume ?? null;
      if (volume !== null) volume.sizeBytes = Math.max(volume.sizeBytes, sizeBytes);
    });
  }

  limitDisk(id: string, serial: string, qos: VolumeQos | null, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.limitDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      checkDisk({ qos });
      if (guest.live !== null) plugged(guest, serial);
    });
  }

  copyDisks(id: string, request: DiskCopies, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.copyDisks', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      const { copies, since, checkpoint } = request;
      const files = copies.map(({ serial, path }) => ({ file: this.#fileOf(guest, serial), path }));
      const deltas = files.flatMap(({ file, path }) => (file === null ? [] : [deltaOf(file, path, since)]));
      for (const delta of deltas) this.#world.files.put(delta);
      if (checkpoint === undefined) return;
      this.#forget(guest, [checkpoint]);
      for (const { file } of files) if (file !== null) track(file, checkpoint);
      const serials = copies.map(({ serial }) => serial);
      guest.checkpoints = [...(guest.checkpoints ?? []), { name: checkpoint, serials }];
    });
  }

  checkpoints(id: string, options?: CallOptions): Promise<GuestCheckpoint[]> {
    return this.#ask('hypervisor.checkpoints', id, options, () => {
      const guest = there(this.#world.guests.get(id) ?? null, id);
      if (guest.definition === null) throw foreign(guest);
      const views = (guest.checkpoints ?? []).map(({ name, serials }) => ({
        name,
        disks: serials.flatMap((serial) => this.#trackedDisk(guest, serial, name)),
      }));
      return views.reverse();
    });
  }

  forgetCheckpoints(id: string, names: readonly string[] | null, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.forgetCheckpoints', id, options, (guest) => {
      if (guest !== null) this.#forget(guest, names);
    });
  }

  stopCopy(id: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.stopCopy', id, options, () => undefined);
  }

  guestAddresses(id: string, options?: CallOptions): Promise<GuestAddress[]> {
    return this.#ask('hypervisor.guestAddresses', id, options, () => {
      const guest = there(this.#world.guests.get(id) ?? null, id);
      if (guest.power === 'running' && guest.booted && guest.agentAnswers) return this.#addresses(guest);
      throw new AgentError('UNAVAILABLE', `The agent in guest ${id} does not answer`);
    });
  }

  uses(options?: CallOptions): Promise<GuestUse[]> {
    return this.#ask('hypervisor.uses', null, options, () => Array.from(this.#world.guests.all(), useOf));
  }

  listKept(options?: CallOptions): Promise<KeptFile[]> {
    return this.#ask('hypervisor.listKept', null, options, () => [...this.#world.kept.values()]);
  }

  keptPaths(guestName: string): Record<KeptFile['kind'], string> {
    return { nvram: `/sim/nvram/${guestName}_VARS.fd`, 'saved-memory': `/sim/save/${guestName}.save` };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#ends) end();
    this.#listeners.clear();
    this.#healthListeners.clear();
  }

  #ask<T>(name: GuestCall, id: string | null, options: CallOptions | undefined, act: () => T): Promise<T> {
    return this.#run({ name, id, options, nature: 'question' }, act);
  }

  /** A call that changes a guest of ours, or finds none. */
  #change<T>(
    name: GuestCall,
    id: string,
    options: CallOptions | undefined,
    act: (guest: SimGuest | null) => T,
  ): Promise<T> {
    return this.#run({ name, id, options }, () => {
      const guest = this.#world.guests.get(id) ?? null;
      if (guest !== null && guest.definition === null) throw foreign(guest);
      this.#world.touch();
      return act(guest);
    });
  }

  async #run<T>(request: CallRequest, act: () => T): Promise<T> {
    if (this.#closed) throw new AgentError('UNAVAILABLE', `${request.name}: the connection is closed`);
    return this.#calls.run(request, act);
  }

  /** The file of a disk of a guest that runs. @throws {AgentError} NOT_FOUND */
  #fileOf(guest: SimGuest, serial: string): SimFile | null {
    return this.#world.files.get(plugged(guest, serial).path ?? '') ?? null;
  }

  /** As on a real host: what is in the file of a guest that does not run is not looked at. */
  #trackedDisk(guest: SimGuest, serial: string, name: string): GuestCheckpoint['disks'] {
    if (guest.live === null) {
      const has = guest.definition?.disks.some((disk) => disk.serial === serial);
      return has ? [{ serial, changedBytes: null }] : [];
    }
    const file = this.#world.files.get(liveDisk(guest, serial)?.path ?? '');
    if (file === undefined || !isKnown(file, name)) return [];
    return [{ serial, changedBytes: changedBytes(file, name) }];
  }

  #forget(guest: SimGuest, names: readonly string[] | null): void {
    const kept = (guest.checkpoints ?? []).filter(({ name }) => names !== null && !names.includes(name));
    const gone = (guest.checkpoints ?? []).filter((checkpoint) => !kept.includes(checkpoint));
    for (const { path } of [...(guest.definition?.disks ?? []), ...(guest.live?.disks ?? [])]) {
      const file = this.#world.files.get(path ?? '');
      if (file !== undefined) for (const { name } of gone) untrack(file, name);
    }
    guest.checkpoints = kept;
  }

  #checkName({ id, name }: GuestDefinition, guest: SimGuest | null): void {
    const holder = this.#world.guests.byName(name);
    if (holder !== undefined && holder.definition === null) throw foreign(holder);
    if ((holder?.id ?? id) !== id) {
      throw new AgentError(
        'ALREADY_EXISTS',
        `Cannot define a guest named ${name}: guest ${holder?.id} has it`,
      );
    }
    if (guest === null || guest.name === name || guest.live === null) return;
    throw illegal(guest, `it was renamed to ${guest.name}, and is ${guest.power}; stop it first`);
  }

  #redefine(guest: SimGuest, definition: GuestDefinition): void {
    const { name, vcpus, memoryMib } = definition;
    Object.assign(guest, { vcpus, memoryMib, definition, persistent: true, edits: noEdits() });
    if (guest.name === name) this.#world.guests.update(guest);
    else this.#world.guests.rename(guest, name);
  }

  #observed(guest: SimGuest): ObservedGuest {
    const { id, name, power, reason, stoppedBy, definition, live } = guest;
    const { vcpus, memoryMib } = live ?? guest;
    return {
      id,
      name,
      ours: definition !== null,
      power,
      reason,
      ...(stoppedBy && { stoppedBy }),
      ...(REQUESTED.has(reason) && { byRequest: true as const }),
      vcpus,
      memoryMib,
      metadata: definition?.metadata ?? null,
      definition: keptOf(guest, this.#world.settings.writer),
      live: live === null ? null : structuredClone({ disks: live.disks, nics: live.nics }),
    };
  }

  /** What the network hands to the guest's NICs, as its agent would tell. */
  #addresses(guest: SimGuest): GuestAddress[] {
    return (guest.definition?.nics ?? []).flatMap(({ macAddress, bridge }, index) => {
      const { plan, ports } = this.#world.bridges.get(bridge) ?? { plan: null, ports: {} };
      const port = Object.values(ports).find((each) => each.macAddress === macAddress);
      if (plan === null || port === undefined) return [];
      const prefix = Number(plan.cidr.split('/')[1]);
      return [{ interface: `eth${index}`, macAddress, address: port.ipAddress, prefix }];
    });
  }

  #lookHealth(): HypervisorHealth {
    const reason = this.#world.faults.cutOffReason('hypervisor');
    return { connected: reason === null, since: this.#world.clock.now(), reason: reason ?? 'connected' };
  }

  #onCutOff(): void {
    this.#health = this.#lookHealth();
    const health = this.#health;
    queueMicrotask(() => {
      if (!this.#attachment.alive) return;
      for (const listener of [...this.#healthListeners]) listener(health);
      if (health.connected) this.#tell({ type: 'gap' });
    });
  }

  #onGuestEvent(event: GuestEvent): void {
    if (this.#health.connected && this.#attachment.alive) this.#tell(event);
  }

  #tell(event: GuestEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}

function useOf({ id, name, definition, live, foreignFiles }: SimGuest): GuestUse {
  const disks = definition?.disks ?? [];
  const paths = disks.flatMap(pathsOf);
  const console = definition?.consoleLogPath ?? null;
  return {
    id,
    name,
    files: [...paths, ...(console === null ? [] : [console]), ...(live?.paths ?? []), ...foreignFiles],
    devices: [...(definition?.nics.map(({ tapName }) => tapName) ?? []), ...(live?.taps ?? [])],
  };
}

function liveDisk({ live }: SimGuest, serial: string): ShapeDisk | undefined {
  return live?.disks.find((disk) => disk.serial === serial);
}

function plugged(guest: SimGuest, serial: string): ShapeDisk {
  const disk = liveDisk(guest, serial);
  if (disk !== undefined) return disk;
  throw new AgentError('NOT_FOUND', `Guest ${guest.id} runs without a disk ${serial}`);
}

function there(guest: SimGuest | null, id: string): SimGuest {
  if (guest === null) throw new AgentError('NOT_FOUND', `No guest ${id} on this host`);
  return guest;
}

function running(maybe: SimGuest | null, id: string): SimGuest {
  const guest = there(maybe, id);
  if (guest.power !== 'running') throw illegal(guest, `it is ${guest.power}`);
  return guest;
}

function illegal(guest: SimGuest, reason: string): AgentError {
  return new AgentError('ILLEGAL_STATE', `Not possible for guest ${guest.id}: ${reason}`);
}

function foreign(guest: SimGuest): AgentError {
  return new AgentError('HOST_CONFLICT', `Guest ${guest.name} (${guest.id}) was not defined by Berth`, {
    hint: 'Leave it, or let an operator remove it.',
  });
}
