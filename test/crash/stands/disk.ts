/**
 * A small file system of its own, in memory: it can be filled, and can break.
 *
 * Broken as a real one breaks: ext4 meets an error, and makes itself read-only under those who have files open.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const FILLER = 'filler';
const UNMOUNT_TRIES = 20;
/** Seconds, as sleep(1) takes them. */
const UNMOUNT_PAUSE = '0.25';

/** Why no file system can be mounted here; false when it can. */
export function cannotMount(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root';
}

export class Disk {
  readonly path: string;
  readonly #image: string;

  /** Makes it, and mounts it on `path`. @param parts.images A folder in memory. */
  constructor(parts: { path: string; images: string; name: string; sizeMib: number }) {
    this.path = parts.path;
    this.#image = join(parts.images, parts.name);
    writeFileSync(this.#image, '');
    truncateSync(this.#image, parts.sizeMib * 1024 ** 2);
    // Without a reserve for root, who we are; without a journal, which would keep it broken.
    tool('mkfs.ext4', '-q', '-m', '0', '-O', '^has_journal', this.#image);
    mkdirSync(this.path, { recursive: true });
    this.#mount();
  }

  /** Command that takes all room that is left. */
  get fillCommand(): string[] {
    const filler = join(this.path, FILLER);
    const script = `fallocate -l "$(df --output=avail -B1 "$1" | tail -1)" "$2"; cat /dev/zero >> "$2"; true`;
    return ['bash', '-c', script, 'fill', this.path, filler];
  }

  /** Gives it back. */
  free(): void {
    rmSync(join(this.path, FILLER), { force: true });
  }

  get availableBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  /** Command that makes it read-only, whoever writes on it. The device is looked up then: each mount takes another one. */
  get breakCommand(): string[] {
    const script =
      'device=$(basename "$(findmnt -no SOURCE "$1")"); echo broken > "/sys/fs/ext4/$device/trigger_fs_error"';
    return ['bash', '-c', script, 'break', this.path];
  }

  /** Repairs it; nobody may have a file open there. */
  repair(): void {
    unmount(this.path);
    this.#mount();
  }

  /** Lays a read-only view over it: those who have files open go on, those who come find it read-only. */
  get coverCommand(): string[] {
    const script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"';
    return ['bash', '-c', script, 'cover', this.path];
  }

  uncover(): void {
    unmount(this.path);
  }

  #mount(): void {
    tool('mount', '-o', 'loop,errors=remount-ro', this.#image, this.path);
  }
}

/** A tool that was killed may hold a file there for a moment longer. */
function unmount(path: string): void {
  for (let tries = 1; ; tries++) {
    try {
      tool('umount', path);
      return;
    } catch (error) {
      if (tries === UNMOUNT_TRIES) throw error;
      execFileSync('sleep', [UNMOUNT_PAUSE]);
    }
  }
}

function tool(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
