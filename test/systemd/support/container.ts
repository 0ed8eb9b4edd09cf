/**
 * A whole host under systemd: Debian 12 in a container of systemd-nspawn, with libvirt, QEMU, and a network of its own.
 *
 *   unshare          ends with the test's process, however that ends
 *     └─ keeper      process 1 of a pid namespace: whatever is below ends with it, mounts and files too
 *          │         an overlay, the kept root below and memory above; control groups of its own
 *          └─ systemd-nspawn
 *               └─ systemd    libvirtd by its socket; the checkout is at CHECKOUT, read-only
 *
 * Promises: the kept root never changes, so each container begins with the same host; two containers share nothing; of a
 * test that was killed an empty folder and empty control groups are left at most.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
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
  readonly #unshare: ChildProcess;
  #words = '';

  /** Lays a host out, and boots nothing yet. @throws {Error} with the reason, where this machine can't. */
  static async create(): Promise<Container> {
    const container = new Container(keptRoot());
    try {
      await container.#until('it is laid out', () => existsSync(join(container.root, CHECKOUT)));
    } catch (error) {
      await container.end();
      throw error;
    }
    return container;
  }

  private constructor(keptRoot: string) {
    this.#folder = mkdtempSync(join(tmpdir(), 'berth-host-'));
    const namespaces = [
      '--mount',
      '--propagation',
      'private',
      '--pid',
      '--fork',
      '--kill-child=SIGKILL',
      '--mount-proc',
    ];
    const keeper = ['sh', '-euc', KEEPER, 'sh', keptRoot, this.#folder, ...this.#controlGroups];
    this.#unshare = spawn('setpriv', ['--pdeathsig', 'SIGKILL', 'unshare', ...namespaces, ...keeper], {
      // Out of the reach of the terminal's signals.
      detached: true,
      env: { ...ENVIRONMENT, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' },
    });
    for (const stream of [this.#unshare.stdout, this.#unshare.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#words += text;
      });
    }
  }

  /** The host's file system as seen from outside; before and while it runs. */
  get root(): string {
    return `/proc/${this.#keeper}/root${this.#folder}/root`;
  }

  /** @throws {Error} with the console's words, where it does not come up. */
  async boot(): Promise<void> {
    this.#unshare.stdin?.write('boot\n');
    await this.#until('it has booted', async () => {
      if (this.#leader === undefined) return false;
      const { stdout } = await this.run('systemctl is-system-running');
      return ['running', 'degraded'].includes(stdout.trim());
    });
  }

  /** Runs a script of bash inside, as root, in a session and with an environment that are not this process's. */
  async run(script: string): Promise<Done> {
    const variables = Object.entries(ENVIRONMENT).map(([name, value]) => `${name}=${value}`);
    const inside = [
      '-t',
      String(this.#leader),
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
    if (this.#leader !== undefined) await this.run('systemctl --no-block poweroff');
    this.#unshare.stdin?.end();
    await until('the container ends', END_MS, async () => (this.#hasEnded ? true : null)).catch(async () => {
      this.#unshare.kill('SIGKILL');
      await until('the container is killed', END_MS, async () => (this.#hasEnded ? true : null));
    });
    rmdirSync(this.#folder);
    execFileSync('find', [...this.#controlGroups, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+']);
  }

  async #until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    await until(what, BOOT_MS, async () => {
      if (this.#hasEnded) throw new Error(this.#words.trim());
      return (await isSo()) ? true : null;
    });
  }

  get #hasEnded(): boolean {
    return this.#unshare.exitCode !== null || this.#unshare.signalCode !== null;
  }

  /** In version 2, and where systemd's own hierarchy of version 1 is mounted, in that as well. */
  get #controlGroups(): string[] {
    const both = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup/systemd'].filter((path) => existsSync(path));
    return (both.length === 0 ? ['/sys/fs/cgroup'] : both).map((path) => join(path, basename(this.#folder)));
  }

  get #keeper(): number | undefined {
    return childOf(this.#unshare.pid, 'sh');
  }

  /** Process 1 of the container. */
  get #leader(): number | undefined {
    return childOf(childOf(this.#keeper, 'systemd-nspawn'), 'systemd');
  }
}

/** Arguments: the kept root, the folder that it is mounted in, control groups. Boots when it is told a line. */
const KEEPER = `
  root=$1 folder=$2
  shift 2
  for group; do
    mkdir "$group"
    echo 0 > "$group/cgroup.procs"
  done
  mount -t tmpfs -o size=${OVERLAY_SIZE},mode=755 tmpfs "$folder"
  mkdir "$folder/upper" "$folder/work" "$folder/root"
  mount -t overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
  cp "${IMAGE}" "$folder/root${GUEST_IMAGE}"
  mkdir -p "$folder/root${CHECKOUT}"
  if read -r word; then
    systemd-nspawn --boot --directory="$folder/root" --register=no --keep-unit --private-network --capability=all \
      --bind=/dev/net/tun --bind-ro="${ROOT}:${CHECKOUT}" --console=pipe < /dev/null
  fi`;

/** The child of `parent` that runs the program; none where there is no parent. */
function childOf(parent: number | undefined, program: string): number | undefined {
  const children = parent === undefined ? '' : readIfThere(`/proc/${parent}/task/${parent}/children`);
  const pids = children.split(' ').filter(Boolean).map(Number);
  return pids.find((pid) => readIfThere(`/proc/${pid}/comm`).trim() === program);
}

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

/** Runs a program to its end, whatever that is. */
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
