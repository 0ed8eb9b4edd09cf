/**
 * What the processes of simulated guests have open: the files of their disks and the folders of their shares, which are
 * plugged, switched, merged and let go of while they run.
 */
import { AgentError } from '../../model/errors.ts';
import {
  type BackingFile,
  type DiskOverlay,
  type GuestDisk,
  type GuestShare,
  pathsOf,
  type ShapeDisk,
} from '../contracts/hypervisor.ts';
import type { Files } from './files.ts';
import type { SimGuest, WorldState } from './state.ts';

export class GuestFiles {
  readonly #state: WorldState;
  readonly #files: Files;
  /** The definition of a guest has changed. */
  readonly #tellDefinition: (guest: SimGuest) => void;
  /** Paths to the number of guests that have them open. */
  readonly #open = new Map<string, number>();

  constructor(state: WorldState, files: Files, tellDefinition: (guest: SimGuest) => void) {
    this.#state = state;
    this.#files = files;
    this.#tellDefinition = tellDefinition;
  }

  isOpen(path: string): boolean {
    return this.#open.has(path);
  }

  /** Whether a guest that runs writes to it; it only reads what its disks stand on. */
  writesTo(path: string): boolean {
    if (!this.isOpen(path)) return false;
    return [...this.#state.guests.values()].some(({ live }) =>
      live?.disks.some((disk) => disk.path === path && !disk.readOnly),
    );
  }

  /** One more process has them open. */
  hold(paths: readonly string[]): void {
    for (const path of paths) this.#open.set(path, (this.#open.get(path) ?? 0) + 1);
  }

  /** One process less. */
  letGo(paths: readonly string[]): void {
    for (const path of paths) {
      const left = (this.#open.get(path) ?? 1) - 1;
      if (left === 0) this.#open.delete(path);
      else this.#open.set(path, left);
    }
  }

  /** Plugs a disk into the running process. @throws {AgentError} INTERNAL: its file is not there */
  plug(guest: SimGuest, disk: GuestDisk): void {
    if (guest.live === null) return;
    const paths = pathsOf(disk);
    for (const path of paths) this.checkPath(guest, path);
    this.checkSecrets(guest, disk);
    const { serial, path, format, readOnly, encryption } = disk;
    this.hold(paths);
    guest.live.paths.push(...paths);
    const keyOf = encryption == null ? {} : { keyOf: encryption.volumeId };
    guest.live.disks.push({ serial, path, format, readOnly, ...keyOf });
    this.#tellDefinition(guest);
  }

  /** Takes a disk out of the running process, with the file that it stands on. */
  unplug(guest: SimGuest, { serial, path }: ShapeDisk): void {
    if (guest.live === null || path === null) return;
    const known = guest.definition?.disks.find((disk) => disk.serial === serial);
    const paths = known === undefined ? [path] : pathsOf(known);
    for (const each of paths) {
      const at = guest.live.paths.indexOf(each);
      if (at >= 0) this.letGo(guest.live.paths.splice(at, 1));
    }
    guest.live.disks = guest.live.disks.filter((disk) => disk.serial !== serial);
    delete guest.live.usage?.disks[serial ?? ''];
    this.#tellDefinition(guest);
  }

  /** Lets the running process write to another file, which stands on the one of before; its definition follows. */
  switch(guest: SimGuest, disk: ShapeDisk, { path, encryption = null }: DiskOverlay): void {
    if (guest.live === null || disk.path === path) return;
    this.checkPath(guest, path);
    this.checkSecrets(guest, { path, format: 'qcow2', encryption });
    this.hold([path]);
    guest.live.paths.push(path);
    this.#passBitmaps(disk.path, path);
    disk.path = path;
    const defined = guest.definition?.disks.find(({ serial }) => serial === disk.serial);
    if (defined !== undefined) {
      const { path: below, format, backing, encryption: belowBy } = defined;
      defined.backing = { path: below, format, backing, ...(belowBy != null && { encryption: belowBy }) };
      defined.path = path;
      if (encryption !== null) defined.encryption = encryption;
    }
    this.#tellDefinition(guest);
  }

  /** What has changed since a checkpoint is known as before. */
  #passBitmaps(from: string | null, to: string): void {
    const bitmaps = this.#files.get(from ?? '')?.volume?.bitmaps;
    const volume = this.#files.get(to)?.volume;
    if (volume != null && bitmaps !== undefined) volume.bitmaps = structuredClone(bitmaps);
  }

  /** Merges a file of the running process into the next one, and goes on without it; its definition follows. */
  merge(
    guest: SimGuest,
    disk: ShapeDisk,
    { path, into, above }: { path: string; into: string; above: string | null },
  ): void {
    const { live, definition } = guest;
    if (live === null) return;
    this.#files.commit(path);
    if (above === null) this.#passBitmaps(path, into);
    const over = above === null ? null : this.#files.get(above)?.volume;
    if (over != null) over.below = into;
    this.letGo(live.paths.splice(live.paths.indexOf(path), 1));
    if (above === null) disk.path = into;
    const defined = definition?.disks.find(({ serial }) => serial === disk.serial);
    if (defined !== undefined) leaveOut(defined, path);
    this.#tellDefinition(guest);
  }

  /** @throws {AgentError} INTERNAL: its folder is not there */
  plugShare(guest: SimGuest, share: GuestShare): void {
    if (guest.live === null) return;
    this.checkPath(guest, share.path);
    this.hold([share.path]);
    guest.live.paths.push(share.path);
    guest.live.shares = [...(guest.live.shares ?? []), { ...share }];
    this.#tellDefinition(guest);
  }

  unplugShare(guest: SimGuest, { tag, path }: GuestShare): void {
    if (guest.live === null) return;
    const at = guest.live.paths.indexOf(path);
    if (at >= 0) this.letGo(guest.live.paths.splice(at, 1));
    const left = (guest.live.shares ?? []).filter((share) => share.tag !== tag);
    if (left.length > 0) guest.live.shares = left;
    else delete guest.live.shares;
    this.#tellDefinition(guest);
  }

  /** Lets go of the file that a disk of the running process stands on. */
  flatten(guest: SimGuest, { serial, path }: ShapeDisk): void {
    const known = guest.definition?.disks.find((disk) => disk.serial === serial);
    const at = guest.live?.paths.indexOf(known?.backing?.path ?? '') ?? -1;
    if (guest.live === null || at < 0 || path === null) return;
    this.letGo(guest.live.paths.splice(at, 1));
    this.#tellDefinition(guest);
  }

  /** @throws {AgentError} INTERNAL: it is not there */
  checkPath(guest: SimGuest, path: string): void {
    if (this.#files.has(path)) return;
    throw new AgentError('INTERNAL', `Guest ${guest.id} cannot start: its disk ${path} is not there`);
  }

  /** As QEMU opens the files of a disk, each by the passphrase that it is given. @throws {AgentError} UNAVAILABLE, INTERNAL */
  checkSecrets(guest: SimGuest, disk: BackingFile | GuestDisk | null): void {
    if (disk === null) return;
    const { path, encryption = null, backing = null } = disk;
    const secret = encryption === null ? undefined : this.#state.secrets.get(encryption.volumeId);
    if (encryption !== null && secret === undefined)
      throw new AgentError('UNAVAILABLE', `Guest ${guest.id}: there is no secret of ${encryption.volumeId}`);
    if (this.#files.get(path)?.volume?.passphrase !== secret)
      throw new AgentError('INTERNAL', `Guest ${guest.id}: ${path} is not opened by what it is given`);
    this.checkSecrets(guest, backing);
  }
}

/** Takes a file out of a chain. */
function leaveOut(file: { path: string; backing?: BackingFile | null }, path: string): void {
  const { backing = null } = file;
  if (file.path === path && backing !== null) Object.assign(file, { backing: null }, backing);
  else if (backing !== null) leaveOut(backing, path);
}
