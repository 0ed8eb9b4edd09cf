/**
 * What bench/libvirt.ts measures against: a private libvirtd that nobody else uses, libvirt-python and virsh as clients
 * of it, and a storage pool in memory.
 */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { type Connection, connect } from 'node-libvirt';
import {
  daemonMissing,
  type PrivateDaemon,
  startPrivateDaemon,
} from '../packages/node-libvirt/test/support/private-daemon.ts';
import { MEMORY_FOLDER } from './harness.ts';

const run = promisify(execFile);

/** Debian's own, since python3-libvirt is installed for that one. */
const PYTHON = '/usr/bin/python3';

/** The first core, as a mask. */
const ONE_CORE = '1';

/** Domain of the test driver that every test:///default has. */
export const DOMAIN = 'test';
export const DOMAINS = 1_000;
/** IOThreads of each domain: 3 values each, and 3 for the domain, so 33 values of statistics. */
const IO_THREADS = 10;

export class LibvirtHost implements AsyncDisposable {
  readonly daemon: PrivateDaemon;
  readonly python: Python;
  readonly #teardowns: (() => unknown)[];
  /** The file that the test driver takes DOMAINS domains from. */
  readonly #domainsPath: string;

  static async start(): Promise<LibvirtHost> {
    const missing = daemonMissing();
    if (missing !== false) throw new Error(`the benchmark needs a libvirtd of its own: ${missing}`);
    const teardowns: (() => unknown)[] = [];
    const daemon = await startPrivateDaemon({
      teardown: (handler) => teardowns.unshift(handler),
      passing: () => true,
      comment: () => {},
    });
    return new LibvirtHost(daemon, teardowns);
  }

  private constructor(daemon: PrivateDaemon, teardowns: (() => unknown)[]) {
    this.daemon = daemon;
    this.#teardowns = teardowns;
    this.#domainsPath = join(daemon.host.dir, 'domains.xml');
    writeFileSync(this.#domainsPath, domainsXml());
    this.python = new Python([this.#peerUri('/default'), this.#peerUri(this.#domainsPath), DOMAIN]);
  }

  /** @param driver 'small': the test driver's one domain. 'large': DOMAINS. 'qemu': for storage. */
  connect(driver: 'small' | 'large' | 'qemu'): Promise<Connection> {
    const uri = { small: 'test:///default', large: `test://${this.#domainsPath}`, qemu: 'qemu:///system' };
    return connect(uri[driver], { socketPath: this.daemon.socketPath });
  }

  /** @param driver As for `connect`. */
  async virsh(driver: 'small' | 'qemu', ...args: string[]): Promise<void> {
    const uri = driver === 'small' ? this.#peerUri('/default') : this.#peerUri('/system', 'qemu');
    await run('virsh', ['-q', '-c', uri, ...args]);
  }

  /**
   * Runs work while the daemon, libvirt-python and this process share one core, as where guests have the others.
   *
   * @see taskset(1)
   */
  async onOneCore<T>(work: () => Promise<T>): Promise<T> {
    const before = await affinity(process.pid);
    const pids = [process.pid, this.daemon.pid, this.python.pid];
    try {
      for (const pid of pids) await setAffinity(pid, ONE_CORE);
      return await work();
    } finally {
      for (const pid of pids) await setAffinity(pid, before);
    }
  }

  /** A folder in memory that ends with the host. */
  memoryFolder(): string {
    const folder = mkdtempSync(join(MEMORY_FOLDER, 'node-libvirt-bench-'));
    this.#teardowns.unshift(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.python.end();
    for (const teardown of this.#teardowns) await teardown();
  }

  /** Without "+unix" libvirt's library runs the test driver in the client itself. */
  #peerUri(path: string, driver = 'test'): string {
    return `${driver}+unix://${path}?socket=${this.daemon.socketPath}`;
  }
}

/** bench/libvirt-peer.py: a command to it, its answer. */
export class Python {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;

  constructor(args: string[]) {
    const script = join(import.meta.dirname, 'libvirt-peer.py');
    this.#process = spawn(PYTHON, [script, ...args]);
    this.#process.stderr.pipe(process.stderr);
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  get pid(): number {
    if (this.#process.pid === undefined) throw new Error(`${PYTHON} did not start`);
    return this.#process.pid;
  }

  async lookup(count: number): Promise<number[]> {
    return (await this.#ask(`lookup ${count}`)) as number[];
  }

  async many(threads: number, count: number): Promise<number> {
    return (await this.#ask(`many ${threads} ${count}`)) as number;
  }

  async stats(count: number): Promise<number[]> {
    return (await this.#ask(`stats ${count}`)) as number[];
  }

  end(): void {
    this.#process.stdin.end();
  }

  async #ask(command: string): Promise<unknown> {
    this.#process.stdin.write(`${command}\n`);
    const answer = await this.#answers.next();
    if (answer.done) throw new Error(`${PYTHON} has ended; it needs python3-libvirt`);
    return JSON.parse(answer.value);
  }
}

/** The cores that a process may use, as a mask in hexadecimal digits. */
async function affinity(pid: number): Promise<string> {
  const { stdout } = await run('taskset', ['--pid', `${pid}`]);
  return /[0-9a-f]+$/.exec(stdout.trim())![0];
}

/** For all threads that a process has, and those that they start. */
async function setAffinity(pid: number, mask: string): Promise<void> {
  await run('taskset', ['--all-tasks', '--pid', mask, `${pid}`]);
}

/** A configuration of the test driver. @see examples/xml/test of libvirt */
function domainsXml(): string {
  const domains = Array.from(
    { length: DOMAINS },
    (_, index) => `<domain type='test'><name>bench-${index}</name>
  <uuid>6e6f6465-0000-4000-8000-${index.toString(16).padStart(12, '0')}</uuid>
  <memory>1048576</memory><vcpu>2</vcpu><iothreads>${IO_THREADS}</iothreads><os><type>hvm</type></os></domain>`,
  );
  return `<node>\n${domains.join('\n')}\n</node>\n`;
}
