/**
 * A folder behind a file system in user space: its server can be stopped, and then whoever asks anything of it hangs, as with
 * an NFS server that is away.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './node.ts';

const MOUNT_MS = 10_000;

/** Why there can be none here, named; false where there can. */
export function cannotMount(): string | false {
  if (!existsSync('/usr/bin/bindfs')) return 'needs bindfs';
  return existsSync('/dev/fuse') ? false : 'this kernel has no FUSE';
}

export class SlowFolder {
  readonly path: string;
  readonly #folder: string;
  #server: ChildProcess | null = null;

  constructor() {
    this.#folder = mkdtempSync(join(tmpdir(), 'berth-slow-'));
    execFileSync('chmod', ['0711', this.#folder]);
    this.path = join(this.#folder, 'mounted');
    for (const path of [this.path, this.behind]) mkdirSync(path);
  }

  /** Where its files really are. */
  get behind(): string {
    return join(this.#folder, 'behind');
  }

  async mount(): Promise<void> {
    this.#server = spawn('bindfs', ['-f', this.behind, this.path], { stdio: 'ignore' });
    await until('it is mounted', MOUNT_MS, async () => this.#isMounted || null);
  }

  stop(): void {
    this.#server?.kill('SIGSTOP');
  }

  goOn(): void {
    this.#server?.kill('SIGCONT');
  }

  /** Nobody may have a file open there. */
  async unmount(): Promise<void> {
    this.goOn();
    if (!this.#isMounted) return;
    execFileSync('umount', [this.path]);
    await until('it is unmounted', MOUNT_MS, async () => !this.#isMounted || null);
  }

  async remove(): Promise<void> {
    await this.unmount();
    this.#server?.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true });
  }

  get #isMounted(): boolean {
    return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${this.path} `);
  }
}
