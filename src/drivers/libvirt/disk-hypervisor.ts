/** The part of LibvirtHypervisor that is about disks. */
import type { VolumeQos } from '../../model/disk.ts';
import type { CallOptions, ProgressListener } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { KeyOfVolume, Keys } from '../contracts/keys.ts';
import type {
  CopyOptions,
  DiskCopies as CopyRequest,
  DiskHypervisor,
  DiskMerge,
  DiskOverlay,
  FlattenOptions,
  GuestCheckpoint,
  GuestDisk,
} from '../contracts/hypervisor.ts';
import { HypervisorCalls, TIMEOUT_MS } from './calls.ts';
import { Checkpoints } from './checkpoints.ts';
import { DiskCopies } from './disk-copies.ts';
import { DiskLayers } from './disk-layers.ts';
import { DiskPulls } from './disk-pulls.ts';
import { GuestQuiet } from './guest-quiet.ts';
import { GuestCommands } from './guest-commands.ts';
import type { HostPlatformOptions } from './host-platform.ts';
import { ownDomain } from './own-domain.ts';
import { Secrets } from './secrets.ts';
import { READ_ONLY_PROGRAM_PATH } from './share-xml.ts';

type Parts = Pick<HostPlatformOptions, 'exec' | 'readOnlyProgram'> & { clock: Clock; keys: Keys };

export abstract class LibvirtDiskHypervisor extends HypervisorCalls implements DiskHypervisor {
  protected readonly commands: GuestCommands;
  readonly #checkpoints: Checkpoints;
  readonly #copies: DiskCopies;
  readonly #layers: DiskLayers;
  readonly #pulls: DiskPulls;
  readonly #secrets: Secrets;
  readonly #quiet = new GuestQuiet();

  constructor({ clock, exec, keys, readOnlyProgram = READ_ONLY_PROGRAM_PATH }: Parts) {
    super(clock);
    this.commands = new GuestCommands(clock, readOnlyProgram);
    this.#checkpoints = new Checkpoints(exec, keys);
    this.#copies = new DiskCopies(clock, this.#checkpoints);
    this.#layers = new DiskLayers(clock);
    this.#pulls = new DiskPulls(clock);
    this.#secrets = new Secrets(keys);
  }

  giveKeys(volumes: readonly KeyOfVolume[], options: CallOptions = {}): Promise<void> {
    const what = 'Cannot hand the passphrases of volumes to libvirt';
    return this.command(what, options, TIMEOUT_MS.request, (context) => this.#secrets.give(context, volumes));
  }

  forgetKey(volumeId: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot take the passphrase of volume ${volumeId} from libvirt`;
    return this.command(what, options, TIMEOUT_MS.request, (context) =>
      this.#secrets.forget(context, volumeId),
    );
  }

  listKeys(options: CallOptions = {}): Promise<string[]> {
    return this.ask('Cannot list the passphrases that libvirt has', options, TIMEOUT_MS.observe, (context) =>
      this.#secrets.list(context),
    );
  }

  plugDisk(id: string, disk: GuestDisk, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot plug a disk into guest ${id}`, options, TIMEOUT_MS.plug, (context) =>
      this.commands.disks.plug(context, id, disk),
    );
  }

  unplugDisk(id: string, serial: string, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot take a disk from guest ${id}`, options, TIMEOUT_MS.unplug, (context) =>
      this.commands.disks.unplug(context, id, serial),
    );
  }

  growDisk(id: string, serial: string, sizeBytes: number, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot grow a disk of guest ${id}`, options, TIMEOUT_MS.disk, (context) =>
      this.commands.disks.grow(context, id, serial, sizeBytes),
    );
  }

  limitDisk(id: string, serial: string, qos: VolumeQos | null, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot limit a disk of guest ${id}`, options, TIMEOUT_MS.disk, (context) =>
      this.commands.disks.limit(context, id, serial, qos),
    );
  }

  copyDisks(id: string, request: CopyRequest, options: CopyOptions = {}): Promise<void> {
    return this.command(`Cannot copy the disks of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#copies.copy(context, id, request, options),
    );
  }

  freezeGuest(id: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot freeze the file systems of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.freeze, (context) => this.#quiet.freeze(context, id));
  }

  thawGuest(id: string, options: CallOptions = {}): Promise<boolean> {
    const what = `Cannot thaw the file systems of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.request, (context) => this.#quiet.thaw(context, id));
  }

  stopCopy(id: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot end the copying of the disks of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.disk, (context) => this.#copies.stop(context, id));
  }

  switchDisks(
    id: string,
    overlays: readonly DiskOverlay[],
    options: CallOptions & { quiesce?: boolean; memoryPath?: string | null } = {},
  ): Promise<void> {
    const { quiesce = false, memoryPath = null } = options;
    const timeoutMs = memoryPath === null ? TIMEOUT_MS.freeze : TIMEOUT_MS.copy;
    return this.command(`Cannot switch the disks of guest ${id}`, options, timeoutMs, (context) =>
      this.#layers.switch(context, id, overlays, { quiesce, memoryPath }),
    );
  }

  mergeDisk(
    id: string,
    merge: DiskMerge,
    options: CallOptions & { onProgress?: ProgressListener; onReady?: () => Promise<void> } = {},
  ): Promise<void> {
    const { onProgress = () => undefined, onReady = async () => undefined } = options;
    return this.command(`Cannot merge a disk of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#layers.merge(context, id, merge, { onProgress, onReady }),
    );
  }

  chainOf(id: string, serial: string, options: CallOptions = {}): Promise<string[] | null> {
    return this.ask(`Cannot look at a disk of guest ${id}`, options, TIMEOUT_MS.observe, (context) =>
      this.#layers.chain(context, id, serial),
    );
  }

  resumeFrom(id: string, memoryPath: string, options: CallOptions = {}): Promise<void> {
    return this.command(`Cannot take up the memory of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#layers.resume(context, id, memoryPath),
    );
  }

  flattenDisk(id: string, serial: string, options: CallOptions & FlattenOptions = {}): Promise<void> {
    return this.command(`Cannot flatten a disk of guest ${id}`, options, TIMEOUT_MS.copy, (context) =>
      this.#pulls.pull(context, id, serial, options),
    );
  }

  stopFlatten(id: string, serial: string, options: CallOptions = {}): Promise<void> {
    const what = `Cannot end the flattening of a disk of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.disk, (context) => this.#pulls.stop(context, id, serial));
  }

  checkpoints(id: string, options: CallOptions = {}): Promise<GuestCheckpoint[]> {
    const what = `Cannot list the checkpoints of guest ${id}`;
    return this.ask(what, options, TIMEOUT_MS.disk, async (context) =>
      this.#checkpoints.list(context, await ownDomain(context, id)),
    );
  }

  forgetCheckpoints(
    id: string,
    names: readonly string[] | null,
    { keys = [], ...options }: CallOptions & { keys?: readonly KeyOfVolume[] } = {},
  ): Promise<void> {
    const what = `Cannot forget checkpoints of guest ${id}`;
    return this.command(what, options, TIMEOUT_MS.disk, (context) =>
      this.#checkpoints.forget(context, id, { names, keys }),
    );
  }
}
