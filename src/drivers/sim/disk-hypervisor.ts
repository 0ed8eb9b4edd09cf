/** The part of SimHypervisor that is about disks. */
import { randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { VolumeQos } from '../../model/disk.ts';
import { MIB } from '../../model/units.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type { KeyOfVolume } from '../contracts/keys.ts';
import type {
  CopyOptions,
  DiskCopies,
  DiskCopy,
  DiskHypervisor,
  DiskMerge,
  DiskOverlay,
  FlattenOptions,
  GuestCheckpoint,
  GuestDisk,
  ShapeDisk,
} from '../contracts/hypervisor.ts';
import { changedBytes, deltaOf, isKnown, track, untrack, type Written } from './bitmaps.ts';
import { checkDisk } from './definition.ts';
import { newFile } from './files.ts';
import { passphraseIn } from './keys.ts';
import { foreign, GuestCalls, illegal, there } from './guest-calls.ts';
import type { SimFile, SimGuest } from './state.ts';

export abstract class SimDiskHypervisor extends GuestCalls implements DiskHypervisor {
  giveKeys(volumes: readonly KeyOfVolume[], options?: CallOptions): Promise<void> {
    return this.run({ name: 'hypervisor.giveKeys', id: null, options }, () => {
      for (const volume of volumes) this.world.secrets.set(volume.volumeId, passphraseIn(this.world, volume));
      this.world.touch();
    });
  }

  forgetKey(volumeId: string, options?: CallOptions): Promise<void> {
    return this.run({ name: 'hypervisor.forgetKey', id: volumeId, options }, () => {
      this.world.secrets.delete(volumeId);
      this.world.touch();
    });
  }

  listKeys(options?: CallOptions): Promise<string[]> {
    return this.ask('hypervisor.listKeys', null, options, () => [...this.world.secrets.keys()]);
  }

  plugDisk(id: string, disk: GuestDisk, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.plugDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      const before = liveDisk(guest, disk.serial);
      if (before === undefined) return this.world.guests.files.plug(guest, disk);
      if (before.path === disk.path) return;
      throw new AgentError('HOST_CONFLICT', `Guest ${id} has another disk with the serial ${disk.serial}`);
    });
  }

  unplugDisk(id: string, serial: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.unplugDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      const disk = liveDisk(guest, serial);
      if (disk === undefined) return;
      if (guest.booted && guest.obeys) return this.world.guests.files.unplug(guest, disk);
      throw new AgentError('DEADLINE_EXCEEDED', `Guest ${id} has not let the disk go, and still has it`);
    });
  }

  growDisk(id: string, serial: string, sizeBytes: number, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.growDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      const volume = this.world.files.get(plugged(guest, serial).path ?? '')?.volume ?? null;
      if (volume !== null) volume.sizeBytes = Math.max(volume.sizeBytes, sizeBytes);
    });
  }

  limitDisk(id: string, serial: string, qos: VolumeQos | null, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.limitDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      checkDisk({ qos });
      if (guest.live !== null) plugged(guest, serial);
    });
  }

  async copyDisks(id: string, request: DiskCopies, options: CopyOptions = {}): Promise<void> {
    const { onMoment = async () => undefined } = options;
    await this.change('hypervisor.copyDisks', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      const { copies, since, checkpoint } = request;
      const disks = copies.map((copy) => ({ written: this.#written(guest, copy.serial), copy }));
      const deltas = disks.flatMap(({ written, copy }) =>
        written === null ? [] : [this.#copied(deltaOf(written, copy.path, since), copy)],
      );
      for (const delta of deltas) this.world.files.put(delta);
      if (checkpoint === undefined) return;
      this.#forget(guest, [checkpoint]);
      for (const { written } of disks) if (written !== null) track(written, checkpoint);
      const serials = copies.map(({ serial }) => serial);
      guest.checkpoints = [...(guest.checkpoints ?? []), { name: checkpoint, serials }];
    });
    await onMoment();
  }

  freezeGuest(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.freezeGuest', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      if (!hasAgent(guest)) throw new AgentError('UNAVAILABLE', `The agent in guest ${id} does not answer`);
      guest.frozen = true;
    });
  }

  thawGuest(id: string, options?: CallOptions): Promise<boolean> {
    return this.change('hypervisor.thawGuest', id, options, (guest) => {
      if (guest === null || guest.live === null) return true;
      if (!hasAgent(guest)) return false;
      guest.frozen = false;
      return true;
    });
  }

  /** As QEMU writes to a file that is there, by the passphrase that it is given. */
  #copied(delta: SimFile, { path, encryption = null }: DiskCopy): SimFile {
    const before = this.world.files.get(path);
    const secret = encryption === null ? undefined : this.world.secrets.get(encryption.volumeId);
    if (encryption !== null && secret === undefined)
      throw new AgentError('UNAVAILABLE', `There is no secret of ${encryption.volumeId}`);
    if (before === undefined || before.copyPassphrase !== secret)
      throw new AgentError('INTERNAL', `${path} is not what it should be`);
    return { ...delta, ...(secret !== undefined && { copyPassphrase: secret }) };
  }

  checkpoints(id: string, options?: CallOptions): Promise<GuestCheckpoint[]> {
    return this.ask('hypervisor.checkpoints', id, options, () => {
      const guest = there(this.world.guests.get(id) ?? null, id);
      if (guest.definition === null) throw foreign(guest);
      const views = (guest.checkpoints ?? []).map(({ name, serials }) => ({
        name,
        disks: serials.flatMap((serial) => this.#trackedDisk(guest, serial, name)),
      }));
      return views.reverse();
    });
  }

  forgetCheckpoints(
    id: string,
    names: readonly string[] | null,
    { keys = [], ...options }: CallOptions & { keys?: readonly KeyOfVolume[] } = {},
  ): Promise<void> {
    return this.change('hypervisor.forgetCheckpoints', id, options, (guest) => {
      if (guest === null) return;
      if (guest.live === null) this.#checkKeys(guest, keys);
      this.#forget(guest, names);
    });
  }

  stopCopy(id: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.stopCopy', id, options, () => undefined);
  }

  switchDisks(
    id: string,
    overlays: readonly DiskOverlay[],
    options: CallOptions & { quiesce?: boolean; memoryPath?: string | null } = {},
  ): Promise<void> {
    return this.change('hypervisor.switchDisks', id, options, (maybe) => {
      const guest = there(maybe, id);
      const { quiesce = false, memoryPath = null } = options;
      if (guest.live === null) throw illegal(guest, 'it does not run');
      if (overlays.every(({ serial, path }) => plugged(guest, serial).path === path)) return;
      if (quiesce && !hasAgent(guest))
        throw new AgentError('UNAVAILABLE', `The agent in guest ${id} does not answer`);
      if (memoryPath !== null) this.world.files.put(memoryOf(guest, memoryPath));
      for (const overlay of overlays)
        this.world.guests.files.switch(guest, plugged(guest, overlay.serial), overlay);
    });
  }

  async mergeDisk(
    id: string,
    { serial, path, into }: DiskMerge,
    options?: CallOptions & { onReady?: () => Promise<void> },
  ): Promise<void> {
    await options?.onReady?.();
    return await this.change('hypervisor.mergeDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) return;
      const disk = plugged(guest, serial);
      const chain = this.world.files.chainOf(disk.path ?? '');
      const at = chain.indexOf(path);
      if (at < 0) return;
      if (chain[at + 1] !== into)
        throw new AgentError('HOST_CONFLICT', `${path} does not stand on ${into} in guest ${id}`);
      this.world.guests.files.merge(guest, disk, { path, into, above: chain[at - 1] ?? null });
    });
  }

  chainOf(id: string, serial: string, options?: CallOptions): Promise<string[] | null> {
    return this.ask('hypervisor.chainOf', id, options, () => {
      const disk = liveDisk(there(this.world.guests.get(id) ?? null, id), serial);
      return disk === undefined ? null : this.world.files.chainOf(disk.path ?? '');
    });
  }

  resumeFrom(id: string, memoryPath: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.resumeFrom', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live !== null) return;
      checkMemory(guest, this.world.files.get(memoryPath)?.text ?? null);
      this.world.guests.powerOn(guest, randomUUID());
    });
  }

  flattenDisk(id: string, serial: string, options?: CallOptions & FlattenOptions): Promise<void> {
    return this.change('hypervisor.flattenDisk', id, options, (maybe) => {
      const guest = there(maybe, id);
      if (guest.live === null) throw illegal(guest, 'it does not run');
      const disk = plugged(guest, serial);
      const volume = this.world.files.get(disk.path ?? '')?.volume ?? null;
      if (volume !== null) volume.imageId = null;
      this.world.guests.files.flatten(guest, disk);
      options?.onProgress?.(1, 1, 'copying');
    });
  }

  stopFlatten(id: string, _serial: string, options?: CallOptions): Promise<void> {
    return this.change('hypervisor.stopFlatten', id, options, () => undefined);
  }

  /** The file of a disk of a guest that runs. @throws {AgentError} NOT_FOUND */
  #written(guest: SimGuest, serial: string): Written | null {
    return this.world.files.written(plugged(guest, serial).path ?? '');
  }

  /** As on a real host: what is in the file of a guest that does not run is not looked at. */
  #trackedDisk(guest: SimGuest, serial: string, name: string): GuestCheckpoint['disks'] {
    if (guest.live === null) {
      const has = guest.definition?.disks.some((disk) => disk.serial === serial);
      return has ? [{ serial, changedBytes: null }] : [];
    }
    const written = this.world.files.written(liveDisk(guest, serial)?.path ?? '');
    if (written === null || !isKnown(written.file, name)) return [];
    return [{ serial, changedBytes: changedBytes(written, name) }];
  }

  /** As of a tool that opens the files. */
  #checkKeys({ checkpoints = [], definition }: SimGuest, keys: readonly KeyOfVolume[]): void {
    for (const { serial, encryption = null } of definition?.disks ?? []) {
      if (encryption === null || !checkpoints.some(({ serials }) => serials.includes(serial))) continue;
      const key = keys.find(({ volumeId }) => volumeId === encryption.volumeId);
      if (key === undefined)
        throw new AgentError('NOT_FOUND', `No key is named for volume ${encryption.volumeId}`);
      passphraseIn(this.world, key);
    }
  }

  #forget(guest: SimGuest, names: readonly string[] | null): void {
    const kept = (guest.checkpoints ?? []).filter(({ name }) => names !== null && !names.includes(name));
    const gone = (guest.checkpoints ?? []).filter((checkpoint) => !kept.includes(checkpoint));
    for (const { path } of [...(guest.definition?.disks ?? []), ...(guest.live?.disks ?? [])]) {
      const file = this.world.files.get(path ?? '');
      if (file !== undefined) for (const { name } of gone) untrack(file, name);
    }
    guest.checkpoints = kept;
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
export function idIn(path: string): string {
  return basename(path).split('.')[0] as string;
}

function liveDisk({ live }: SimGuest, serial: string): ShapeDisk | undefined {
  return live?.disks.find((disk) => disk.serial === serial);
}

/** Whether its agent answers: nothing does in a guest that is paused. */
function hasAgent({ booted, agentAnswers, power }: SimGuest): boolean {
  return booted && agentAnswers && power !== 'paused';
}

function plugged(guest: SimGuest, serial: string): ShapeDisk {
  const disk = liveDisk(guest, serial);
  if (disk !== undefined) return disk;
  throw new AgentError('NOT_FOUND', `Guest ${guest.id} runs without a disk ${serial}`);
}
