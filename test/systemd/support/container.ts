/**
 * A whole host under systemd: Debian 12 in a container of systemd-nspawn, with libvirt, QEMU, and a network of its own.
 *
 *   holder      a process whose mount namespace holds an overlay: the kept root below, memory above
 *     └─ nspawn    systemd as process 1, libvirtd by its socket; the checkout is at CHECKOUT, read-only
 *
 * Promises: the kept root never changes, so each container begins with the same host; and holder and nspawn end with the
 * test's process however it ends, mounts and files with them.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../e2e/support/node.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const BUILD_ROOT = join(import.meta.dirname, 'build-root');
const IMAGE = join(ROOT, 'build', 'test-image.qcow2');

/** Where the checkout and the test image are inside. */
export const CHECKOUT = '/opt/berth';
export const GUEST_IMAGE = '/root/test-image.qcow2';

/** What a container may write, far more than it does: a node keeps 2 GiB free and promises guests no more than the rest. */
const OVERLAY_SIZE = '8g';
/** Bounds of waits on a loaded machine, ms; a boot takes 4 s, a command of the tests up to 10 s. */
const BOOT_MS = 90_000;
const COMMAND_MS = 180_000;
const END_MS = 30_000;
/** Output of one command that is kept, bytes: a journal is the longest. */
const OUTPUT_BYTES = 4 * 1024 * 1024;

const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LC_ALL: 'C', TERM: 'dumb' };

export interface Done {
  code: number;
  stdout: string;
  stderr: string;
}

/** Why no container can run here; null when one can. */
export function whyNoContainer(): string | null {
  if (process.getuid?.() !== 0) return 'needs root';
  for (const program of ['debootstrap', 'systemd-nspawn', 'nsenter', 'unshare']) {
    if (!isInstalled(program)) return `needs ${program}: run scripts/bootstrap test`;
  }
  if (!existsSync(IMAGE)) return 'no test image: run scripts/build-test-image';
  return existsSync('/dev/net/tun') ? null : 'needs /dev/net/tun';
}

export class Container {
  readonly #folder: string;
  readonly #holder: ChildProcess;
  #nspawn: ChildProcess | null = null;
  #console = '';

  /** Lays a host out, and boots nothing yet. @throws {Error} with the reason, where this machine can't. */
  static async create(): Promise<Container> {
    const folder = mkdtempSync(join(tmpdir(), 'berth-host-'));
    const holder = spawnTied('unshare', [
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-euc',
      LAY_OUT,
      'sh',
      keptRoot(),
      folder,
    ]);
    const container = new Container(folder, holder);
    await ready(holder).catch(async (error: unknown) => {
      await container.end();
      throw error;
    });
    return container;
  }

  private constructor(folder: string, holder: ChildProcess) {
    this.#folder = folder;
    this.#holder = holder;
  }

  /** The host's file system as seen from outside; before and while it runs. */
  get root(): string {
    return `/proc/${this.#holder.pid}/root${this.#folder}/root`;
  }

  /** @throws {Error} with the console's words, where it does not come up. */
  async boot(): Promise<void> {
    const argv = [
      '--target',
      String(this.#holder.pid),
      '--mount',
      'systemd-nspawn',
      ...this.#nspawnOptions(),
    ];
    const nspawn = spawnTied('nsenter', argv);
    this.#nspawn = nspawn;
    for (const stream of [nspawn.stdout, nspawn.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#console += text;
      });
    }
    await until('the container has booted', BOOT_MS, async () => {
      if (nspawn.exitCode !== null) throw new Error(`The container does not boot: ${this.#console}`);
      return (await this.#isUp()) ? true : null;
    });
  }

  /** Runs a script of bash inside, as root, in a session and with an environment that are not this process's. */
  async run(script: string): Promise<Done> {
    const leader = this.#leader();
    if (leader === null) throw new Error('The container does not run');
    const variables = Object.entries(ENVIRONMENT).map(([name, value]) => `${name}=${value}`);
    const inside = [
      '-t',
      String(leader),
      '-m',
      '-u',
      '-i',
      '-n',
      '-p',
      '-C',
      'setsid',
      '--wait',
      'env',
      '-i',
    ];
    return finished('nsenter', [...inside, ...variables, 'bash', '-c', script]);
  }

  /** The same, for what must succeed; its output without the last line end. */
  async must(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.run(script);
    if (code !== 0) throw new Error(`${script}: exit code ${code}\n${stdout}${stderr}`);
    return stdout.trimEnd();
  }

  /** Properties of a unit. @see systemctl(1), show */
  async unit(name: string): Promise<Record<string, string>> {
    const lines = (await this.must(`systemctl show ${name}`)).split('\n');
    return Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
  }

  /** Powers it off, and leaves nothing of it. */
  async end(): Promise<void> {
    if (this.#nspawn !== null && this.#nspawn.exitCode === null) {
      if (this.#leader() !== null) await this.run('systemctl --no-block poweroff');
      await gone(this.#nspawn);
    }
    this.#holder.stdin?.end();
    await gone(this.#holder);
    rmdirSync(this.#folder);
  }

  #nspawnOptions(): string[] {
    return [
      '--boot',
      `--directory=${this.#folder}/root`,
      '--register=no',
      '--keep-unit',
      '--private-network',
      '--capability=all',
      '--bind=/dev/net/tun',
      `--bind-ro=${ROOT}:${CHECKOUT}`,
      '--console=pipe',
    ];
  }

  async #isUp(): Promise<boolean> {
    if (this.#leader() === null) return false;
    const { stdout } = await this.run('systemctl is-system-running');
    return ['running', 'degraded'].includes(stdout.trim());
  }

  /** Process 1 of the container: the child of nspawn, which nsenter has become. */
  #leader(): number | null {
    const pid = this.#nspawn?.pid;
    if (pid === undefined) return null;
    const children = readIfThere(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
    return children.find((child) => readIfThere(`/proc/${child}/comm`).trim() === 'systemd') ?? null;
  }
}

/** The overlay, in the holder's mount namespace; it is told that it stands, and kept until standard input ends. */
const LAY_OUT = `
  mount -t tmpfs -o size=${OVERLAY_SIZE},mode=755 tmpfs "$2"
  mkdir "$2/upper" "$2/work" "$2/root"
  mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
  cp "${IMAGE}" "$2/root${GUEST_IMAGE}"
  mkdir -p "$2/root${CHECKOUT}"
  echo ready
  exec cat`;

/** The root that every container stands on, built when its recipe has changed; kept in build/. */
function keptRoot(): string {
  const packages = execFileSync('bash', ['-c', '. scripts/bootstrap; declare -p RUNTIME_PACKAGES'], {
    cwd: ROOT,
  });
  const recipe = createHash('sha256').update(packages).update(readFileSync(BUILD_ROOT));
  const path = join(ROOT, 'build', `systemd-root-${recipe.digest('hex').slice(0, 12)}`);
  if (!existsSync(path)) execFileSync(BUILD_ROOT, [path], { stdio: ['ignore', 'inherit', 'inherit'] });
  return path;
}

/** A child that the kernel kills when this process is gone; in a session of its own, out of the terminal's reach. */
function spawnTied(program: string, args: readonly string[]): ChildProcess {
  const env = { ...ENVIRONMENT, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' };
  return spawn('setpriv', ['--pdeathsig', 'SIGKILL', program, ...args], {
    stdio: 'pipe',
    detached: true,
    env,
  });
}

/** Resolves when the holder says that the overlay stands. */
async function ready(holder: ChildProcess): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let words = '';
  holder.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words += text;
  });
  holder.stdout?.once('data', () => resolve());
  holder.once('exit', () => reject(new Error(`No overlay can be mounted here: ${words.trim()}`)));
  await promise;
}

async function gone(child: ChildProcess): Promise<void> {
  const isGone = async () => (child.exitCode !== null || child.signalCode !== null ? true : null);
  await until('it ends', END_MS, isGone).catch(async () => {
    child.kill('SIGKILL');
    await until('it is killed', END_MS, isGone);
  });
}

function finished(program: string, argv: readonly string[]): Promise<Done> {
  const { promise, resolve } = Promise.withResolvers<Done>();
  const options = { timeout: COMMAND_MS, maxBuffer: OUTPUT_BYTES };
  execFile(program, argv, options, (error, stdout, stderr) => {
    const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
    resolve({ code, stdout, stderr });
  });
  return promise;
}

function isInstalled(program: string): boolean {
  return ENVIRONMENT.PATH.split(':').some((folder) => existsSync(join(folder, program)));
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
