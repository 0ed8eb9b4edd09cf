/**
 * SimHypervisor: the Hypervisor contract on a simulated host.
 *
 * Guests are the world's (guests.ts); this is the connection to it, with its health, its deadlines and its
 * refusals. Closing it, or killing the process that it stands for, touches no guest.
 */
import { basename } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { AgentError } from '../../model/errors.ts';
import type { VolumeQos } from '../../model/disk.ts';
import { MIB } from '../../model/units.ts';
import type { CallOptions, Unsubscribe } from '../contracts/calls.ts';
import type { KeyOfVolume } from '../contracts/keys.ts';
import {
  type DiskCopies,
  type DiskMerge,
  type DiskOverlay,
  type FlattenOptions,
  type GuestAddress,
  type GuestCheckpoint,
  type GuestDefinition,
  type GuestDisk,
  type GuestEvent,
  type GuestShare,
  type GuestUse,
  type Hypervisor,
  type HypervisorFacts,
  type HypervisorHealth,
  type KeptDefinition,
  type KeptFile,
  type ObservedGuest,
  type ShapeDisk,
  pathsOf,
} from '../contracts/hypervisor.ts';
import { changedBytes, deltaOf, isKnown, track, untrack, type Written } from './bitmaps.ts';
import { type Attachment, type CallRequest, Calls } from './call.ts';
import { checkDefinition, checkDisk } from './definition.ts';
import type { CallName } from './faults.ts';
import { newFile } from './files.ts';
import { passphraseIn } from './keys.ts';
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
      shares: {
        usable: settings.sharesMissing === null,
        reason: settings.sharesMissing ?? 'set by the simulation',
      },
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

  giveKeys(volumes: readonly KeyOfVolume[], options?: CallOptions): Promise<void> {
    return this.#run({ name: 'hypervisor.giveKeys', id: null, options }, () => {
      for (const volume of volumes)
        this.#world.secrets.set(volume.volumeId, passphraseIn(this.#world, volume));
      this.#world.touch();
    });
  }

  forgetKey(volumeId: string, options?: CallOptions): Promise<void> {
    return this.#run({ name: 'hypervisor.forgetKey', id: volumeId, options }, () => {
      this.#world.secrets.delete(volumeId);
      this.#world.touch();
    });
  }

  listKeys(options?: CallOptions): Promise<string[]> {
    return this.#ask('hypervisor.listKeys', null, options, () => [...this.#world.secrets.keys()]);
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

  plugShare(id: string, share: GuestShare, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.plugShare', id, options, (maybe) => {
      const guest = there(maybe, id);
      const before = liveShare(guest, share.tag);
      if (guest.live === null || isDeepStrictEqual(before, share)) return;
      if (before !== undefined)
        throw new AgentError('HOST_CONFLICT', `Guest ${id} has another share with the tag ${share.tag}`);
      if (guest.live.sharesMemory !== true) throw illegal(guest, 'it was started without a share');
      this.#world.guests.plugShare(guest, share);
    });
  }

  unplugShare(id: string, tag: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.unplugShare', id, options, (maybe) => {
      const guest = there(maybe, id);
      const share = liveShare(guest, tag);
      if (share === undefined) return;
      if (guest.booted && guest.obeys) return this.#world.guests.unplugShare(guest, share);
      throw new AgentError('DEADLINE_EXCEEDED', `Guest ${id} has not let the share go, and still has it`);
    });
  }

  copyDisks(id: string, request: DiskCopies, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.copyDisks', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      const { copies, since, checkpoint } = request;
      const disks = copies.map(({ serial, path }) => ({ written: this.#written(guest, serial), path }));
      const deltas = disks.flatMap(({ written, path }) =>
        written === null ? [] : [deltaOf(written, path, since)],
      );
      for (const delta of deltas) this.#world.files.put(delta);
      if (checkpoint === undefined) return;
      this.#forget(guest, [checkpoint]);
      for (const { written } of disks) if (written !== null) track(written, checkpoint);
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

  switchDisks(
    id: string,
    overlays: readonly DiskOverlay[],
    options: CallOptions & { quiesce?: boolean; memoryPath?: string | null } = {},
  ): Promise<void> {
    return this.#change('hypervisor.switchDisks', id, options, (maybe) => {
      const guest = there(maybe, id);
      const { quiesce = false, memoryPath = null } = options;
      if (guest.live === null) throw illegal(guest, 'it does not run');
      if (overlays.every(({ serial, path }) => plugged(guest, serial).path === path)) return;
      if (quiesce && !(guest.booted && guest.agentAnswers))
        throw new AgentError('UNAVAILABLE', `The agent in guest ${id} does not answer`);
      if (memoryPath !== null) this.#world.files.put(memoryOf(guest, memoryPath));
      for (const overlay of overlays)
        this.#world.guests.switch(guest, plugged(guest, overlay.serial), overlay);
    });
  }

  mergeDisk(id: string, { serial, path, into }: DiskMerge, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.mergeDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) return;
      const disk = plugged(guest, serial);
      const chain = this.#world.files.chainOf(disk.path ?? '');
      const at = chain.indexOf(path);
      if (at < 0) return;
      if (chain[at + 1] !== into)
        throw new AgentError('HOST_CONFLICT', `${path} does not stand on ${into} in guest ${id}`);
      this.#world.guests.merge(guest, disk, { path, into, above: chain[at - 1] ?? null });
    });
  }

  chainOf(id: string, serial: string, options?: CallOptions): Promise<string[] | null> {
    return this.#ask('hypervisor.chainOf', id, options, () => {
      const disk = liveDisk(there(this.#world.guests.get(id) ?? null, id), serial);
      return disk === undefined ? null : this.#world.files.chainOf(disk.path ?? '');
    });
  }

  resumeFrom(id: string, memoryPath: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.resumeFrom', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live !== null) return;
      checkMemory(guest, this.#world.files.get(memoryPath)?.text ?? null);
      this.#world.guests.powerOn(guest);
    });
  }

  flattenDisk(id: string, serial: string, options?: CallOptions & FlattenOptions): Promise<void> {
    return this.#change('hypervisor.flattenDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      const disk = plugged(guest, serial);
      const volume = this.#world.files.get(disk.path ?? '')?.volume ?? null;
      if (volume !== null) volume.imageId = null;
      this.#world.guests.flatten(guest, disk);
      options?.onProgress?.(1, 1, 'copying');
    });
  }

  stopFlatten(id: string, _serial: string, options?: CallOptions): Promise<void> {
    return this.#change('hypervisor.stopFlatten', id, options, () => undefined);
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
  #written(guest: SimGuest, serial: string): Written | null {
    return this.#world.files.written(plugged(guest, serial).path ?? '');
  }

  /** As on a real host: what is in the file of a guest that does not run is not looked at. */
  #trackedDisk(guest: SimGuest, serial: string, name: string): GuestCheckpoint['disks'] {
    if (guest.live === null) {
      const has = guest.definition?.disks.some((disk) => disk.serial === serial);
      return has ? [{ serial, changedBytes: null }] : [];
    }
    const written = this.#world.files.written(liveDisk(guest, serial)?.path ?? '');
    if (written === null || !isKnown(written.file, name)) return [];
    return [{ serial, changedBytes: changedBytes(written, name) }];
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
      live:
        live === null
          ? null
          : structuredClone({
              disks: live.disks,
              nics: live.nics,
              ...(live.shares !== undefined && { shares: live.shares }),
            }),
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

/** The disks of a guest with this memory. */
function memoryOf({ memoryMib, live }: SimGuest, path: string): SimFile {
  const text = serialsOf(live?.disks ?? []);
  return newFile({ kind: 'volume', id: idIn(path), path, sizeBytes: memoryMib * MIB, text });
}

function checkMemory({ id, definition }: SimGuest, serials: string | null): void {
  if (serials === null) throw new AgentError('NOT_FOUND', `There is no saved memory of guest ${id}`);
  if (serials === serialsOf(definition?.disks ?? [])) return;
  throw new AgentError('HOST_CONFLICT', `The saved memory is of a guest with other disks than ${id} has`);
}

function serialsOf(disks: readonly { serial: string | null }[]): string {
  return disks
    .map(({ serial }) => serial)
    .toSorted()
    .join(' ');
}

/** The id that a file of the pool bears in its name. */
function idIn(path: string): string {
  return basename(path).split('.')[0] as string;
}

function useOf({ id, name, definition, live, foreignFiles }: SimGuest): GuestUse {
  const disks = definition?.disks ?? [];
  const paths = [...disks.flatMap(pathsOf), ...(definition?.shares ?? []).map(({ path }) => path)];
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

function liveShare({ live }: SimGuest, tag: string): GuestShare | undefined {
  return live?.shares?.find((share) => share.tag === tag) as GuestShare | undefined;
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
