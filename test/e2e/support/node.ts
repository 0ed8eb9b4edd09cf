/**
 * A real node: berthd as a process, on the libvirt, QEMU, bridges and disks of this machine.
 *
 * Everything of it is in one folder and named by ids of its own, so that tests see what they leave behind.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AgentError, type ErrorBody } from '../../../src/model/errors.ts';
import type { MethodName, OperationMethod, Params, Result } from '../../../src/model/methods.ts';
import type { Operation } from '../../../src/model/operation.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import { FOLDER_PREFIX, own } from './owner.ts';

export const ROOT = join(import.meta.dirname, '..', '..', '..');
export const IMAGE = join(ROOT, 'build', 'test-image.qcow2');
const LIBVIRT_SOCKET = '/run/libvirt/libvirt-sock';

/** Bounds of waits, ms: a guest under TCG on a loaded machine takes its time. */
const GUEST_MS = 120_000;
const START_MS = 30_000;
const LOOK_MS = 50;
/** Random networks tried: of 8,192 a host uses a few. */
const CIDR_TRIES = 100;

/** Why the tests on real parts can't run here; false when they can. */
export function cannotRun(): string | false {
  if (process.getuid?.() !== 0) return 'needs root';
  if (!existsSync(LIBVIRT_SOCKET)) return `no libvirtd answers on ${LIBVIRT_SOCKET}`;
  if (!existsSync(IMAGE)) return 'no test image: run scripts/build-test-image';
  return false;
}

export class RealNode {
  readonly folder: string;
  #process: ChildProcess | null = null;

  /** Network of the node's guests, which nothing else of this host uses. */
  readonly cidr = freeCidr();

  readonly #program: string[];

  readonly #moreConfig: string;

  /**
   * @param options.built Run the bundle in dist/ instead of the source. @default false
   * @param options.config More tables of the configuration, as TOML.
   * @param options.entry What starts it elsewhere, as in namespaces of its own. @default nothing
   */
  constructor(options: { built?: boolean; config?: string; entry?: string[] } = {}) {
    this.#moreConfig = options.config ?? '';
    const program = options.built
      ? [join(ROOT, 'bin/berthd')]
      : [process.execPath, '--conditions=berth-source', join(ROOT, 'src/agent/main.ts')];
    this.#program = [...(options.entry ?? []), ...program];
    this.folder = mkdtempSync(join(tmpdir(), FOLDER_PREFIX));
    own(this.folder);
    chmodSync(this.folder, 0o711);
    writeFileSync(this.#path('berthd.toml'), this.#config());
  }

  get socketPath(): string {
    return this.#path('berth.sock');
  }

  get pid(): number {
    return this.#process?.pid as number;
  }

  /** The address that the first guest of the network gets. */
  get firstAddress(): string {
    return this.cidr.replace('.0/24', '.2');
  }

  /** Starts berthd, and waits until it answers. */
  async start(): Promise<void> {
    const log = openSync(this.#path('log'), 'a');
    const [program, ...args] = [...this.#program, '--config', this.#path('berthd.toml')];
    this.#process = spawn(program as string, args, { stdio: ['ignore', log, log] });
    await until('berthd answers', START_MS, () => this.call('node.status', {}).then(() => true, notYet));
  }

  /** @param signal SIGTERM to stop in order, SIGKILL to crash. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (child === null || child.exitCode !== null) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    child.once('exit', () => resolve());
    child.kill(signal);
    await promise;
    this.#process = null;
  }

  call<M extends MethodName>(method: M, params: Partial<Params<M>>): Promise<Result<M>> {
    return this.post(`/v1/${method}`, JSON.stringify(params)) as Promise<Result<M>>;
  }

  /** Calls an operation and waits for its end. */
  async run<M extends OperationMethod>(method: M, params: Partial<Params<M>>): Promise<Operation> {
    const { operation } = (await this.call(method, params)) as { operation: Operation };
    return this.ended(operation);
  }

  /** The same. @throws {Error} It has not succeeded. */
  async must<M extends OperationMethod>(method: M, params: Partial<Params<M>>): Promise<void> {
    const { state, error } = await this.run(method, params);
    if (state !== 'succeeded') throw new Error(`${method} ${state}: ${error?.message}`);
  }

  async ended(operation: Operation): Promise<Operation> {
    let latest = operation;
    while (latest.endedAt === null) {
      ({ operation: latest } = await this.call('operation.get', { id: operation.id, waitSeconds: 30 }));
    }
    return latest;
  }

  /** Any body to any path of the local socket. @throws {AgentError} the one that was answered */
  post(path: string, body: string, headers: Record<string, string> = {}): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const call = request({ socketPath: this.socketPath, path, method: 'POST', headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        const answer = JSON.parse(text) as { error?: ErrorBody };
        if (answer.error === undefined) resolve(answer);
        else reject(AgentError.fromBody(answer.error));
      });
    });
    call.on('error', reject).end(body);
    return promise;
  }

  /** `berth` as a person calls it. */
  async berth(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const argv = [
      '--conditions=berth-source',
      join(ROOT, 'src/cli/main.ts'),
      '--socket',
      this.socketPath,
      ...args,
    ];
    return promisify(execFile)(process.execPath, argv).then(
      (done) => ({ code: 0, ...done }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
  }

  async untilAddress(name: string): Promise<string> {
    return until(`${name} reports an address`, GUEST_MS, async () => {
      const { instance } = await this.call('instance.show', { id: name });
      return instance.guest?.addresses.find(({ address }) => address.includes('.'))?.address ?? null;
    });
  }

  async untilPower(name: string, state: string): Promise<void> {
    await until(`${name} is ${state}`, GUEST_MS, async () => {
      const { instance } = await this.call('instance.show', { id: name });
      return instance.power.state === state ? true : null;
    });
  }

  /** What the host has of this node's, looked at with its own tools. */
  async traces(): Promise<string[]> {
    const { networks } = await this.call('network.list', {});
    const { instances } = await this.call('instance.list', {});
    const names = [...networks.map(({ bridge }) => bridge), ...instances.map(({ id }) => id)];
    return [...names.flatMap((name) => hostTraces(name)), ...this.poolFiles()];
  }

  poolFiles(): string[] {
    const pool = this.#path('state/pool');
    return readdirSync(pool, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => entry.name);
  }

  log(): string {
    return readFileSync(this.#path('log'), 'utf8');
  }

  /** Deletes all that is left, ends the daemon, removes the folder. */
  async remove(): Promise<void> {
    await this.end('SIGTERM');
    await this.start();
    for (const { id } of (await this.call('instance.list', {})).instances)
      await this.run('instance.delete', { id });
    for (const { id } of (await this.call('volume.list', {})).volumes)
      await this.run('volume.delete', { id });
    for (const { id } of (await this.call('share.list', {})).shares) await this.run('share.delete', { id });
    for (const { id } of (await this.call('image.list', {})).images) await this.run('image.delete', { id });
    for (const { id } of (await this.call('network.list', {})).networks)
      await this.run('network.delete', { id });
    await this.end('SIGTERM');
    rmSync(this.folder, { recursive: true });
  }

  /** The same for a node that has nothing on the host. */
  async discard(): Promise<void> {
    await this.end('SIGTERM');
    rmSync(this.folder, { recursive: true });
  }

  #path(name: string): string {
    return join(this.folder, name);
  }

  #config(): string {
    return [
      '[node]',
      `stateDir = "${this.#path('state')}"`,
      `runDir = "${this.#path('run')}"`,
      '[socket]',
      `path = "${this.socketPath}"`,
      '[storage]',
      `path = "${this.#path('state/pool')}"`,
      '[capacity]',
      'vcpuRatio = 64',
      'diskRatio = 8',
      // The disk of the machine that tests may be as full as it likes.
      'poolWarningPercent = 100',
      'poolCriticalPercent = 100',
      this.#moreConfig,
      '',
    ].join('\n');
  }
}

/**
 * A /24 of 10.96.0.0/11 that no link or route of this host has: another run, or one that was killed, may still be here.
 */
export function freeCidr(): string {
  const inUse = ['addr', 'route']
    .map((what) => execFileSync('ip', ['-4', what], { encoding: 'utf8' }))
    .join();
  for (let tries = 0; tries < CIDR_TRIES; tries++) {
    const prefix = `10.${randomInt(96, 128)}.${randomInt(256)}.`;
    if (!inUse.includes(prefix)) return `${prefix}0/24`;
  }
  throw new Error(`no free network in ${CIDR_TRIES} tries`);
}

/** Imports the test image as `test` and makes the network `default`. */
export async function prepare(node: RealNode): Promise<void> {
  const network = { name: 'default', cidr: node.cidr, nat: true, dhcp: true, dnsServers: [] };
  const operations = [
    await node.run('image.import', { name: 'test', source: IMAGE }),
    await node.run('network.create', { spec: network }),
  ];
  const failed = operations.find(({ state }) => state !== 'succeeded');
  if (failed !== undefined) throw new Error(`${failed.kind}: ${failed.error?.message}`);
}

export function spec(name: string, change: object = {}): Params<'instance.create'>['spec'] {
  return {
    name,
    vcpus: 1,
    memoryMib: 256,
    firmware: 'bios',
    disks: [{ image: 'test' }],
    nics: [{ network: 'default' }],
    sshAuthorizedKeys: [],
    watchdog: 'none',
    policies: DEFAULT_POLICIES,
    ...change,
  };
}

/** Links, rules and processes that bear the name, and the domain with that UUID. */
export function hostTraces(name: string): string[] {
  const look = (program: string, ...args: string[]) =>
    execFileSync(program, args, { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.includes(name));
  return [
    ...look('ip', '-o', 'link'),
    ...look('nft', 'list', 'ruleset'),
    ...look('virsh', '-q', '-c', 'qemu:///system', 'list', '--all', '--uuid'),
  ];
}

/** Pid of the QEMU process of a domain. */
export function qemuPid(domain: string): number {
  return Number(readFileSync(`/run/libvirt/qemu/${domain}.pid`, 'utf8'));
}

export async function until<T>(what: string, boundMs: number, look: () => Promise<T | null>): Promise<T> {
  const deadline = performance.now() + boundMs;
  while (performance.now() < deadline) {
    const found = await look();
    if (found !== null) return found;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`${what}: not within ${boundMs} ms`);
}

function notYet(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') return null;
  throw error;
}
