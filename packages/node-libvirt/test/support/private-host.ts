/**
 * A host of its own for libvirt's daemons: they may be stopped, frozen, killed and configured, and share nothing with
 * the daemon that this machine may run.
 *
 *   unshare
 *     └─ keeper      process 1 of a pid namespace, in a mount namespace with its own /run, /etc/libvirt, /var/lib/libvirt,
 *          │         /var/cache/libvirt, /var/log, and on request its own network; it lives until its input ends
 *          ├─ libvirtd, virtqemud …    started from outside, by nsenter
 *          └─ QEMU, dnsmasq …          theirs; they outlive their daemon as on any host
 *
 * The files are those of this machine, or of another root (tools/build-trixie-root), which is never written to. The folder
 * `dir` has the same path inside and outside; in it are the sockets, the configuration and the logs.
 *
 * Promises: when the test ends, and when its process is killed, every process, mount and file of the host is gone. Control
 * groups are not seen inside, so none are left behind either. What libvirt has found out about QEMU, which takes seconds,
 * is taken over from the cache of the root.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.ts';

/** What this needs of a tap test. */
export interface TestScope {
  teardown(handler: () => unknown): unknown;
  passing(): boolean;
  comment(text: string): unknown;
}

export interface HostOptions {
  /** Root directory of the operating system that the daemons are taken from. @default this machine's own */
  root?: string | undefined;
  /** 'own' gives a network namespace with a loopback interface: networks and bridges of tests cannot meet others. @default 'shared' */
  network?: 'own' | 'shared' | undefined;
  /** Lines of qemu.conf, besides those that a host without services needs. */
  qemuConf?: Conf | undefined;
}

/** Settings of a libvirt configuration file. */
export type Conf = Readonly<Record<string, string | number | readonly string[]>>;

export interface Done {
  code: number;
  stdout: string;
  stderr: string;
}

/** Programs that the host is made with, besides those in `root`. */
const PROGRAMS = ['unshare', 'nsenter', 'bash', 'mount', 'ip'];

const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LC_ALL: 'C',
};

/** No virtlogd, no AppArmor profiles written to the machine, no device namespaces: a test needs none of them. */
const QEMU_CONF: Conf = { stdio_handler: 'file', security_driver: 'none', namespaces: [] };

/** Bound of the making and the end of a host, ms: some 100 on an idle machine. */
const CHANGE_MS = 60_000;

/** Bound of one command inside, ms. */
const COMMAND_MS = 60_000;

/** Why there can be no private host here, or false. */
export function hostMissing(): string | false {
  if (process.getuid?.() !== 0) return 'needs root';
  const missing = PROGRAMS.find((program) => !isInstalled(program));
  return missing === undefined ? false : `needs ${missing}`;
}

export class PrivateHost {
  /** Folder that is the same inside and outside. */
  readonly dir: string;
  /** Folder of the daemons' sockets: /run/libvirt inside. */
  readonly socketDir: string;
  readonly #unshare: ChildProcess;
  readonly #options: HostOptions;
  #words = '';

  /** Lays the host out; it ends with the test. @throws {Error} with the reason, where this machine cannot. */
  static async create(t: TestScope, options: HostOptions = {}): Promise<PrivateHost> {
    const host = new PrivateHost(options);
    t.teardown(() => host.end());
    await until(() => host.#isReady(), 'the private host is laid out', CHANGE_MS);
    return host;
  }

  private constructor(options: HostOptions) {
    this.#options = options;
    this.dir = mkdtempSync(join(tmpdir(), 'nlp-'));
    this.socketDir = join(this.dir, 'run');
    for (const name of ['run', 'etc', 'log']) mkdirSync(join(this.dir, name));
    writeFileSync(join(this.dir, 'etc', 'qemu.conf'), confText({ ...QEMU_CONF, ...options.qemuConf }));
    const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--mount-proc'];
    if (options.network === 'own') namespaces.push('--net');
    const keeper = ['bash', '--norc', '-euc', KEEPER, 'keeper', this.dir, options.root ?? ''];
    // Detached: out of the reach of the terminal's signals, so that it can clean up.
    this.#unshare = spawn('unshare', [...namespaces, ...keeper], { detached: true, env: ENVIRONMENT });
    for (const stream of [this.#unshare.stdout, this.#unshare.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#words += text;
      });
    }
  }

  /** Program and arguments that run `argv` inside, as root. */
  inside(argv: readonly string[]): [string, string[]] {
    const namespaces = ['--target', String(this.#keeper), '--mount', '--pid'];
    if (this.#options.network === 'own') namespaces.push('--net');
    const root = this.#options.root === undefined ? [] : ['chroot', ROOT_INSIDE];
    return ['nsenter', [...namespaces, '--', ...root, ...argv]];
  }

  /**
   * Starts a program inside that goes on, with process 1 inside as its parent.
   *
   * @param logPath Its output is added to this file, which is in `dir`.
   * @returns Its process id as this test sees it.
   */
  async spawn(
    argv: readonly string[],
    options: { env: Readonly<Record<string, string>>; logPath: string },
  ): Promise<number> {
    const variables = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
    const start = 'exec 3>&1 >> "$0" 2>&1; "$@" 3>&- & echo $! >&3';
    const done = await this.run('env', ...variables, 'sh', '-c', start, options.logPath, ...argv);
    const pid = this.#pids().find((pid) => pidInside(pid) === Number(done.stdout));
    if (pid === undefined) throw new Error(`${argv[0]} has not started: ${done.stderr}`);
    return pid;
  }

  /** Runs a program inside to its end, whatever that is. */
  run(...argv: string[]): Promise<Done> {
    const [program, args] = this.inside(argv);
    const { promise, resolve } = Promise.withResolvers<Done>();
    execFile(program, args, { timeout: COMMAND_MS, cwd: '/', env: ENVIRONMENT }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, stdout, stderr });
    });
    return promise;
  }

  /** Ids, as this test sees them, of the processes inside that run a program. */
  pidsOf(program: string): number[] {
    return this.#pids().filter((pid) => commandOf(pid) === program.slice(0, COMMAND_CHARACTERS));
  }

  /** Ends everything inside, and leaves nothing of it. */
  async end(): Promise<void> {
    this.#unshare.stdin?.end();
    await until(() => this.#hasEnded, 'the private host has ended', CHANGE_MS);
    if (existsSync(this.dir)) throw new Error(`${this.dir} is left: ${this.#words}`);
  }

  get #hasEnded(): boolean {
    return this.#unshare.exitCode !== null || this.#unshare.signalCode !== null;
  }

  get #keeper(): number {
    const { pid: parent } = this.#unshare;
    const [pid] = readIfThere(`/proc/${parent}/task/${parent}/children`)
      .split(' ')
      .filter(Boolean)
      .map(Number);
    if (pid === undefined) throw new Error(`the private host is gone: ${this.#words}`);
    return pid;
  }

  #pids(): number[] {
    const namespace = linkOf(`/proc/${this.#keeper}/ns/pid`);
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return pids.map(Number).filter((pid) => linkOf(`/proc/${pid}/ns/pid`) === namespace);
  }

  #isReady(): boolean {
    if (this.#hasEnded) throw new Error(`no private host can be made here: ${this.#words.trim()}`);
    return this.#words.includes(READY);
  }
}

/** The text of a libvirt configuration file. */
export function confText(conf: Conf): string {
  return Object.entries(conf)
    .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
    .join('');
}

/** Name of the program that a process runs, cut to 15 characters; empty when it has ended. */
export function commandOf(pid: number): string {
  const isRunning = !/^State:\s+[ZX]/m.test(readIfThere(`/proc/${pid}/status`));
  return isRunning ? readIfThere(`/proc/${pid}/comm`).trim() : '';
}

/** The kernel keeps this much of a program's name. @see proc_pid_comm(5) */
const COMMAND_CHARACTERS = 15;

/** Id of a process in its own namespace. */
function pidInside(pid: number): number {
  return Number(/^NSpid:.*\s(\d+)$/m.exec(readIfThere(`/proc/${pid}/status`))?.[1]);
}

const ROOT_INSIDE = '/mnt/root';
const READY = 'ready\n';

/**
 * Arguments: dir, root or nothing. A new /sys shows the right network devices, and no control groups. As process 1 bash
 * collects orphans that have ended, or libvirt would wait for their QEMU in vain.
 */
const KEEPER = `
  dir=$1 root=$2
  finish() {
    cd /
    kill -KILL -1 || true
    for try in {1..100}; do
      rm -rf --one-file-system "$dir" && exit
      read -rt 0.05 <> <(:) || true
    done
  }
  trap finish EXIT
  chmod 755 "$dir"
  if [[ $root ]]; then
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/upper /mnt/work ${ROOT_INSIDE}
    mount -t overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" overlay ${ROOT_INSIDE}
    root=${ROOT_INSIDE}
    mkdir -p "$root$dir"
    mount --bind "$dir" "$root$dir"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
  else
    umount -R -l /sys
  fi
  mount -t sysfs sysfs "$root/sys"
  cp -a "$root/var/cache/libvirt" "$dir/cache"
  mount --bind "$dir/cache" "$root/var/cache/libvirt"
  for path in /run /var/lib/libvirt /var/log; do
    mount -t tmpfs -o mode=755 tmpfs "$root$path"
  done
  mkdir -p "$root/run/libvirt" "$root/run/lock" "$root/var/log/libvirt"
  mount --bind "$dir/run" "$root/run/libvirt"
  mount --bind "$dir/etc" "$root/etc/libvirt"
  mount --bind "$dir/log" "$root/var/log/libvirt"
  ip link set lo up
  printf '${READY.trim()}\\n'
  read -r || true`;

export function isInstalled(program: string): boolean {
  return ENVIRONMENT.PATH.split(':').some((folder) => existsSync(join(folder, program)));
}

function readIfThere(path: string): string {
  return ifThere(() => readFileSync(path, 'utf8'));
}

function linkOf(path: string): string {
  return ifThere(() => readlinkSync(path));
}

/** A process may end between two looks, or be one that even root may not look into. */
function ifThere(read: () => string): string {
  try {
    return read();
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
