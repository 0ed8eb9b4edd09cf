/**
 * SimHypervisor: the Hypervisor contract on a simulated host.
 *
 * Guests are the world's (guests.ts); this is the connection to it, with its health, its deadlines and its
 * refusals. Closing it, or killing the process that it stands for, touches no guest.
 */
import { isDeepStrictEqual } from 'node:util';
import { NVRAM_BYTES_LIMIT } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import type { HostDevice } from '../../model/topology.ts';
import type { CallOptions, Unsubscribe } from '../contracts/calls.ts';
import {
  type GuestAddress,
  type GuestDefinition,
  type GuestEvent,
  type GuestShare,
  type GuestUsage,
  type GuestUse,
  type Hypervisor,
  type HypervisorFacts,
  type HypervisorHealth,
  type KeptDefinition,
  type KeptFile,
  type ObservedGuest,
  pathsOf,
} from '../contracts/hypervisor.ts';
import type { Attachment } from './call.ts';
import { checkDefinition } from './definition.ts';
import { idIn, SimDiskHypervisor } from './disk-hypervisor.ts';
import { newFile } from './files.ts';
import { foreign, illegal, there } from './guest-calls.ts';
import { newGuest } from './outside.ts';
import { generationIdOf, keptOf, noEdits, nvramPath } from './shape.ts';
import type { SimGuest } from './state.ts';
import { usageOf } from './usage.ts';
import type { SimWorld } from './world.ts';

/** What a guest's power has for a reason when the host was asked for it. */
const REQUESTED: ReadonlySet<string> = new Set(['destroyed', 'paused by the user']);

export class SimHypervisor extends SimDiskHypervisor implements Hypervisor {
  readonly #attachment: Attachment;
  readonly #listeners = new Set<(event: GuestEvent) => void>();
  readonly #healthListeners = new Set<(health: HypervisorHealth) => void>();
  readonly #ends: Unsubscribe[];
  #health: HypervisorHealth;

  constructor(world: SimWorld, attachment: Attachment) {
    super(world, attachment);
    this.#attachment = attachment;
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
    const { settings } = this.world;
    return this.ask('hypervisor.facts', null, options, () => ({
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
      numaNodes: this.world.machine.resources.numaNodes,
    }));
  }

  devices(options?: CallOptions): Promise<HostDevice[]> {
    return this.ask('hypervisor.devices', null, options, () => this.world.machine.devices);
  }

  onDevices(listener: () => void): Unsubscribe {
    return this.world.machine.onDevices(() => this.#attachment.alive && listener());
  }

  observe(options?: CallOptions): Promise<ObservedGuest[]> {
    return this.ask('hypervisor.observe', null, options, () =>
      Array.from(this.world.guests.all(), (guest) => this.#observed(guest)),
    );
  }

  observeGuest(id: string, options?: CallOptions): Promise<ObservedGuest | null> {
    return this.ask('hypervisor.observeGuest', id, options, () => {
      const guest = this.world.guests.get(id);
      return guest === undefined ? null : this.#observed(guest);
    });
  }

  define(definition: GuestDefinition, options?: CallOptions): Promise<KeptDefinition> {
    return this.change('hypervisor.define', definition.id, options, (guest) => {
      checkDefinition(definition);
      this.#checkName(definition, guest);
      const kept = structuredClone(definition);
      const { id, name, vcpus, memoryMib } = kept;
      const defined = guest ?? newGuest({ id, name, vcpus, memoryMib, definition: kept });
      if (guest === null) this.world.guests.add(defined);
      else this.#redefine(guest, kept);
      return keptOf(defined, this.world.settings.writer) as KeptDefinition;
    });
  }

  start(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.start', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.power === 'running') return;
      if (guest.power === 'stopping') throw illegal(guest, 'it is shutting down');
      if (guest.power === 'paused') this.world.guests.resume(guest);
      else this.world.guests.powerOn(guest);
    });
  }

  requestShutdown(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.requestShutdown', id, options, (guest) =>
      this.world.guests.askShutdown(running(guest, id)),
    );
  }

  requestReboot(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.requestReboot', id, options, (guest) =>
      this.world.guests.askReboot(running(guest, id)),
    );
  }

  reset(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.reset', id, options, (guest) =>
      this.world.guests.reset(running(guest, id)),
    );
  }

  destroy(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.destroy', id, options, (guest) => {
      if (guest !== null && guest.live !== null) this.world.guests.powerOff(guest, 'stopped', 'destroyed');
    });
  }

  undefine(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.undefine', id, options, (guest) => {
      if (guest === null) return;
      if (guest.live !== null) throw illegal(guest, `it is ${guest.power}`);
      this.world.kept.delete(nvramPath(guest.name));
      this.world.guests.remove(guest);
    });
  }

  keepNvram(id: string, path: string, options?: CallOptions): Promise<boolean> {
    return this.change('hypervisor.keepNvram', id, options, (maybe) => {
      const guest = there(maybe, id);
      return this.world.files.get(path) !== undefined || this.#copyNvram(guest, path);
    });
  }

  copyNvram(id: string, path: string, options?: CallOptions): Promise<boolean> {
    return this.change('hypervisor.copyNvram', id, options, (guest) =>
      this.#copyNvram(there(guest, id), path),
    );
  }

  #copyNvram({ name }: SimGuest, path: string): boolean {
    const kept = this.world.kept.get(nvramPath(name));
    if (kept === undefined) return false;
    const { sizeBytes, text = '' } = kept;
    this.world.files.put(newFile({ kind: 'volume', id: idIn(path), path, sizeBytes, text }));
    return true;
  }

  restoreNvram(id: string, path: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.restoreNvram', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live !== null) throw illegal(guest, 'it runs');
      const file = this.world.files.get(path);
      if (file === undefined) throw new AgentError('NOT_FOUND', `There are no firmware variables at ${path}`);
      this.world.guests.putNvram(guest.name, file.text ?? '');
    });
  }

  writeNvram(id: string, bytes: Uint8Array, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.writeNvram', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live !== null) throw illegal(guest, 'it runs');
      if (bytes.length === 0 || bytes.length > NVRAM_BYTES_LIMIT)
        throw new AgentError('INVALID_ARGUMENT', `No firmware keeps ${bytes.length} bytes of variables`);
      this.world.guests.putNvram(guest.name, Buffer.from(bytes).toString());
    });
  }

  plugShare(id: string, share: GuestShare, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.plugShare', id, options, (maybe) => {
      const guest = there(maybe, id);
      const before = liveShare(guest, share.tag);
      if (guest.live === null || isDeepStrictEqual(before, share)) return;
      if (before !== undefined)
        throw new AgentError('HOST_CONFLICT', `Guest ${id} has another share with the tag ${share.tag}`);
      if (guest.live.sharesMemory !== true) throw illegal(guest, 'it was started without a share');
      this.world.guests.files.plugShare(guest, share);
    });
  }

  unplugShare(id: string, tag: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.unplugShare', id, options, (maybe) => {
      const guest = there(maybe, id);
      const share = liveShare(guest, tag);
      if (share === undefined) return;
      if (guest.booted && guest.obeys) return this.world.guests.files.unplugShare(guest, share);
      throw new AgentError('DEADLINE_EXCEEDED', `Guest ${id} has not let the share go, and still has it`);
    });
  }

  guestAddresses(id: string, options?: CallOptions): Promise<GuestAddress[]> {
    return this.ask('hypervisor.guestAddresses', id, options, () => {
      const guest = there(this.world.guests.get(id) ?? null, id);
      if (guest.power === 'running' && guest.booted && guest.agentAnswers) return this.#addresses(guest);
      throw new AgentError('UNAVAILABLE', `The agent in guest ${id} does not answer`);
    });
  }

  usage(options?: CallOptions): Promise<GuestUsage[]> {
    return this.ask('hypervisor.usage', null, options, () => {
      const nowMs = this.world.clock.now();
      return Array.from(this.world.guests.all(), (guest) => usageOf(guest, nowMs)).filter(
        (usage) => usage !== null,
      );
    });
  }

  uses(options?: CallOptions): Promise<GuestUse[]> {
    return this.ask('hypervisor.uses', null, options, () => Array.from(this.world.guests.all(), useOf));
  }

  listKept(options?: CallOptions): Promise<KeptFile[]> {
    return this.ask('hypervisor.listKept', null, options, () => [...this.world.kept.values()]);
  }

  keptPaths(guestName: string): Record<KeptFile['kind'], string> {
    return { nvram: nvramPath(guestName), 'saved-memory': `/sim/save/${guestName}.save` };
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const end of this.#ends) end();
    this.#listeners.clear();
    this.#healthListeners.clear();
  }

  #checkName({ id, name }: GuestDefinition, guest: SimGuest | null): void {
    const holder = this.world.guests.byName(name);
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
    if (guest.name === name) this.world.guests.update(guest);
    else this.world.guests.rename(guest, name);
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
      generationId: live?.generationId ?? generationIdOf(guest),
      definition: keptOf(guest, this.world.settings.writer),
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
      const { plan, ports } = this.world.bridges.get(bridge) ?? { plan: null, ports: {} };
      const port = Object.values(ports).find((each) => each.macAddress === macAddress);
      if (plan === null || port === undefined) return [];
      const prefix = Number(plan.cidr.split('/')[1]);
      return [{ interface: `eth${index}`, macAddress, address: port.ipAddress, prefix }];
    });
  }

  #lookHealth(): HypervisorHealth {
    const reason = this.world.faults.cutOffReason('hypervisor');
    return { connected: reason === null, since: this.world.clock.now(), reason: reason ?? 'connected' };
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
  const paths = [...disks.flatMap(pathsOf), ...(definition?.shares ?? []).map(({ path }) => path)];
  const console = definition?.consoleLogPath ?? null;
  return {
    id,
    name,
    files: [...paths, ...(console === null ? [] : [console]), ...(live?.paths ?? []), ...foreignFiles],
    devices: [...(definition?.nics.map(({ tapName }) => tapName) ?? []), ...(live?.taps ?? [])],
  };
}

function liveShare({ live }: SimGuest, tag: string): GuestShare | undefined {
  return live?.shares?.find((share) => share.tag === tag) as GuestShare | undefined;
}

function running(maybe: SimGuest | null, id: string): SimGuest {
  const guest = there(maybe, id);
  if (guest.power !== 'running') throw illegal(guest, `it is ${guest.power}`);
  return guest;
}
