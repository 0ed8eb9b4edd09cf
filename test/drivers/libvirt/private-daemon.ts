/**
 * A libvirtd of the test's own, to be stopped, killed and started again: in mount and network namespaces of its own,
 * with its own folders, so that it and the machine's libvirtd know nothing of one another.
 *
 * A process that only sleeps holds the namespaces; daemons are started into them, and guests outlive the daemons, as
 * on any host.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { appendFile, chmod, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node-libvirt';
import type { Test } from 'tap';
import { isThere, NAME_PREFIX, until } from './lab.ts';

/** Folder of the daemon by the name that it has in ours. */
const MOUNTS = {
  run: '/run/libvirt',
  lib: '/var/lib/libvirt',
  cache: '/var/cache/libvirt',
  log: '/var/log/libvirt',
  etc: '/etc/libvirt',
};
/** Within the folder for logs: all that libvirtd says to the monitors of its guests. */
const MONITOR_LOG = 'monitors.log';

export class PrivateDaemon {
  readonly #folder: string;
  readonly #holder: ChildProcess;
  #virtlogd: ChildProcess | null = null;
  #libvirtd: ChildProcess | null = null;

  /** Starts one, and ends it with the test, guests and all. */
  static async open(t: Pick<Test, 'teardown'>): Promise<PrivateDaemon> {
    const folder = await mkdtemp(`/var/tmp/${NAME_PREFIX}daemon-`);
    await chmod(folder, 0o755);
    await fill(folder);
    const daemon = new PrivateDaemon(folder, holdNamespaces(folder));
    t.teardown(() => daemon.#close());
    await until('the namespaces', () => isThere(join(folder, 'run', 'mounted')));
    daemon.#virtlogd = daemon.#spawnInside('virtlogd', ['-p', join(folder, 'virtlogd.pid')]);
    await daemon.start();
    return daemon;
  }

  private constructor(folder: string, holder: ChildProcess) {
    this.#folder = folder;
    this.#holder = holder;
  }

  get socketPath(): string {
    return join(this.#folder, 'run', 'libvirt-sock');
  }

  /** For libvirt's own clients, and for berthd. */
  get uri(): string {
    return `qemu:///system?socket=${this.socketPath}`;
  }

  /** What starts a program that sees the daemon's files where a host has them. */
  get entry(): string[] {
    return ['nsenter', '--mount', '--target', String(this.#holder.pid)];
  }

  /** Where a file of the daemon's host is for us. */
  pathOf(path: string): string {
    return `/proc/${this.#holder.pid}/root${path}`;
  }

  /** The commands that it has given to the QEMUs of its guests so far, in their order. */
  async commands(): Promise<string[]> {
    const text = await readFile(join(this.#folder, 'log', MONITOR_LOG), 'latin1');
    return [...text.matchAll(/QEMU_MONITOR_SEND_MSG: .*?"execute":"([^"]+)"/g)].map(([, name]) =>
      String(name),
    );
  }

  /** Starts libvirtd and waits until it answers. */
  async start(): Promise<void> {
    this.#libvirtd = this.#spawnInside('libvirtd', ['-p', join(this.#folder, 'libvirtd.pid')]);
    await until('the private libvirtd', () => answers(this.socketPath));
  }

  /** Stops libvirtd as a service manager does, or kills it. Its guests run on. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await ended(this.#libvirtd, signal);
    this.#libvirtd = null;
  }

  /** Makes libvirtd hang, with its socket still open. */
  freeze(): void {
    this.#libvirtd?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#libvirtd?.kill('SIGCONT');
  }

  /** nsenter becomes the program itself, so that the child is the daemon. */
  #spawnInside(program: string, args: string[]): ChildProcess {
    const target = String(this.#holder.pid);
    return spawn('nsenter', ['--mount', '--net', '--target', target, program, ...args], { stdio: 'ignore' });
  }

  async #close(): Promise<void> {
    this.thaw();
    await ended(this.#libvirtd, 'SIGTERM');
    await this.#endGuests();
    await ended(this.#virtlogd, 'SIGTERM');
    await ended(this.#holder, 'SIGKILL');
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Guests that a failed test has left behind: QEMU's pid files are in the daemon's own folder. */
  async #endGuests(): Promise<void> {
    const folder = join(this.#folder, 'run', 'qemu');
    const names = (await isThere(folder)) ? await readdir(folder) : [];
    for (const name of names.filter((name) => name.startsWith(NAME_PREFIX) && name.endsWith('.pid'))) {
      process.kill(Number(await readFile(join(folder, name), 'utf8')), 'SIGKILL');
    }
  }
}

/** An empty host, with the machine's configuration and a host UUID of its own. */
async function fill(folder: string): Promise<void> {
  for (const name of ['run', 'lib', 'cache', 'log']) await mkdir(join(folder, name), { mode: 0o755 });
  await ended(spawn('cp', ['-a', '/etc/libvirt', join(folder, 'etc')], { stdio: 'ignore' }), null);
  await rm(join(folder, 'etc', 'qemu'), { recursive: true, force: true });
  await mkdir(join(folder, 'etc', 'qemu'));
  const settings = {
    host_uuid: randomUUID(),
    log_filters: '2:qemu.qemu_monitor',
    log_outputs: `2:file:${join(MOUNTS.log, MONITOR_LOG)}`,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = "${value}"\n`);
  await appendFile(join(folder, 'etc', 'libvirtd.conf'), `\n${lines.join('')}`);
}

function holdNamespaces(folder: string): ChildProcess {
  const mounts = Object.entries(MOUNTS).map(
    ([name, path]) => `mkdir -p ${path}; mount --bind "$0/${name}" ${path}`,
  );
  const script = [...mounts, 'touch "$0/run/mounted"', 'exec sleep infinity'].join(' && ');
  const args = ['--mount', '--net', '--propagation', 'private', 'sh', '-c', script, folder];
  return spawn('unshare', args, { stdio: 'ignore' });
}

async function answers(socketPath: string): Promise<boolean> {
  try {
    await using connection = await connect('qemu:///system', { socketPath, reconnect: false });
    return (await connection.getHostname()) !== '';
  } catch {
    return false; // not yet
  }
}

/** Sends the signal, if any, and waits until the process is gone. */
async function ended(child: ChildProcess | null, signal: NodeJS.Signals | null): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.once('exit', () => resolve());
  child.once('error', reject);
  if (signal !== null) child.kill(signal);
  await promise;
}
