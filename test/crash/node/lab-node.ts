/**
 * One node of the laboratory: its folder, and the berthd of the moment.
 *
 * While one berthd works the next is loaded already, and waits; so a restart takes a third of the time.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MethodName, OperationMethod, Params, Result } from '../../../src/model/methods.ts';
import { MARK } from '../../../src/drivers/folder/tree.ts';
import { hasEnded, type Operation } from '../../../src/model/operation.ts';
import { feedUploads } from './feed-uploads.ts';
import { LocalClient } from './local-client.ts';
import type {
  Answers,
  Deed,
  Failing,
  Holding,
  JournaledOperation,
  Message,
  Reply,
  Request,
  Trap,
} from './protocol.ts';
import { until } from './until.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const PROGRAM = join(import.meta.dirname, 'berthd.ts');
/** Bounds of waits, ms: a loaded machine takes its time. */
const START_MS = 60_000;
const END_MS = 60_000;
const OPERATION_MS = 120_000;
/** Of the log that a failure shows, lines. */
const LOG_LINES = 60;

/** The pool beside the default one. */
export const OTHER_POOL = 'other';
/** The pool that another node has, too. */
export const SHARED_POOL = 'common';

export interface NodeOptions {
  folder: string;
  driver: 'sim' | 'libvirt';
  /** File of the simulated host; null for a real one. */
  world: string | null;
}

export class LabNode {
  readonly folder: string;
  readonly stateDir: string;
  readonly poolDir: string;
  /** Of the second pool. */
  readonly otherPoolDir: string;
  /** Of the one that is shared. */
  readonly sharedPoolDir: string;
  readonly runDir: string;
  readonly #client: LocalClient;
  readonly #options: NodeOptions;
  #child: ChildProcess | null = null;
  #spare: ChildProcess | null = null;
  #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #serial = 0;
  #keys = 0;
  #logStart = 0;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.folder = options.folder;
    this.stateDir = join(this.folder, 'state');
    this.poolDir = join(this.folder, 'pool');
    this.otherPoolDir = join(this.folder, OTHER_POOL);
    this.sharedPoolDir = join(this.folder, SHARED_POOL);
    this.runDir = join(this.folder, 'run');
    this.#client = new LocalClient(join(this.folder, 'berth.sock'));
    for (const path of [this.otherPoolDir, this.sharedPoolDir, this.#objectsDir])
      mkdirSync(path, { recursive: true });
    writeFileSync(join(this.#objectsDir, MARK), '');
    writeFileSync(this.#configPath, this.#config());
    writeFileSync(this.#keyPath, `${'5a'.repeat(32)}\n`, { mode: 0o600 });
  }

  get pid(): number {
    return this.#child?.pid as number;
  }

  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** How the last one ended. */
  get ending(): { code: number | null; signal: NodeJS.Signals | null } {
    return { code: this.#child?.exitCode ?? null, signal: this.#child?.signalCode ?? null };
  }

  /** Starts berthd, and waits until it serves. @throws {Error} it does not start, with its reason */
  async start(parts: { trap?: Trap | null; failing?: Failing | null } = {}): Promise<void> {
    const child = this.#spare ?? this.#spawn();
    this.#child = child;
    this.#spare = this.#spawn();
    const start = {
      config: this.#configPath,
      world: this.#options.world,
      trap: parts.trap ?? null,
      failing: parts.failing ?? null,
    };
    await this.ask({ ask: 'start', start }, START_MS);
  }

  /** Sends a signal; waits for nothing. */
  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.isRunning) this.signal(signal);
    await this.ended();
  }

  async ended(): Promise<void> {
    await until(() => !this.isRunning, 'berthd has ended', END_MS);
  }

  /** Ends all processes of the node. */
  async close(): Promise<void> {
    this.#spare?.kill('SIGKILL');
    await this.end('SIGKILL');
  }

  ask<R extends Request>(request: R, boundMs = START_MS): Promise<Answers[R['ask']]> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const serial = ++this.#serial;
    const timer = setTimeout(() => reject(new Error(`no answer to ${request.ask}`)), boundMs);
    this.#waiting.set(serial, { resolve, reject });
    this.#child?.send({ serial, request } satisfies Message, (error) => error && reject(error));
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(serial);
    }) as Promise<Answers[R['ask']]>;
  }

  async arm(
    parts: { trap?: Trap | null; failing?: Failing | null; holding?: Holding | null } = {},
  ): Promise<void> {
    const { trap = null, failing = null, holding = null } = parts;
    await this.ask({ ask: 'arm', trap, failing, holding });
  }

  async deed(deed: Deed): Promise<void> {
    await this.ask({ ask: 'deed', deed });
  }

  operationOf(key: string): Promise<JournaledOperation | null> {
    return this.ask({ ask: 'operation', key });
  }

  call<M extends MethodName>(method: M, params: Partial<Params<M>> = {}): Promise<Result<M>> {
    return this.#client.call(method, params);
  }

  freshKey(): string {
    return `lab-${process.pid}-${++this.#keys}`;
  }

  /** Runs an operation to its end. @throws {Error} it did not succeed */
  async run<M extends OperationMethod>(method: M, params: Partial<Params<M>>): Promise<void> {
    const { operation } = (await this.call(method, params)) as { operation: Operation };
    const ended = await this.untilEnded(operation);
    if (ended.state !== 'succeeded') throw new Error(`${method} ${ended.state}: ${ended.error?.message}`);
  }

  async untilEnded(operation: Operation): Promise<Operation> {
    let latest = operation;
    await until(
      async () => {
        if (operation.kind === 'image.upload') await feedUploads(this.#client);
        if (!hasEnded(latest.state))
          ({ operation: latest } = await this.call('operation.get', {
            id: operation.id,
            waitSeconds: waitOf(operation),
          }));
        return hasEnded(latest.state);
      },
      `${operation.kind} has ended`,
      OPERATION_MS,
    );
    return latest;
  }

  /** Waits until no operation is unfinished. */
  async untilIdle(): Promise<void> {
    await until(
      async () => {
        await feedUploads(this.#client);
        const { operations } = await this.call('node.status');
        return operations.pending + operations.running === 0;
      },
      'no operation is unfinished',
      OPERATION_MS,
    );
  }

  /** What follows in the log belongs to the next case. */
  markLog(): void {
    this.#logStart = this.#log().length;
  }

  /** The end of the log since the mark. */
  logTail(): string {
    return this.#log().slice(this.#logStart).trimEnd().split('\n').slice(-LOG_LINES).join('\n');
  }

  /** A second daemon on the same folder, until it ends; its reason. */
  async second(): Promise<string> {
    const child = this.#spawn();
    // A simulated host is written down by whoever attaches to it.
    const world = this.#options.world === null ? null : `${this.#options.world}.second`;
    const { promise, resolve } = Promise.withResolvers<string>();
    child.on('message', (reply: Reply) => resolve('error' in reply ? reply.error : 'it serves'));
    child.once('exit', () => resolve('it ended'));
    const start = { config: this.#configPath, world, trap: null, failing: null };
    child.send({ serial: 0, request: { ask: 'start', start } } satisfies Message);
    return promise.finally(() => child.kill('SIGKILL'));
  }

  get #objectsDir(): string {
    return join(this.folder, 'objects');
  }

  get #keyPath(): string {
    return join(this.folder, 'key');
  }

  get #configPath(): string {
    return join(this.folder, 'berthd.toml');
  }

  #spawn(): ChildProcess {
    const log = openSync(join(this.folder, 'log'), 'a');
    const child = spawn(process.execPath, ['--conditions=berth-source', PROGRAM], {
      cwd: ROOT,
      env: { ...process.env, NODE_COMPILE_CACHE: join(this.folder, 'compiled') },
      stdio: ['ignore', log, log, 'ipc'],
    });
    closeSync(log);
    child.on('message', (reply: Reply) => this.#onReply(child, reply));
    child.once('exit', () => this.#onExit(child));
    return child;
  }

  #onReply(child: ChildProcess, reply: Reply): void {
    if (child !== this.#child) return;
    const waiting = this.#waiting.get(reply.serial);
    if ('error' in reply) waiting?.reject(new Error(reply.error));
    else waiting?.resolve(reply.answer);
  }

  #onExit(child: ChildProcess): void {
    if (child !== this.#child) return;
    for (const { reject } of this.#waiting.values()) reject(new Error('berthd has ended'));
  }

  #log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8');
  }

  #config(): string {
    return [
      '[node]',
      `stateDir = "${this.stateDir}"`,
      `runDir = "${this.runDir}"`,
      '[socket]',
      `path = "${join(this.folder, 'berth.sock')}"`,
      '[hypervisor]',
      `driver = "${this.#options.driver}"`,
      '[storage]',
      `path = "${this.poolDir}"`,
      '[capacity]',
      'vcpuRatio = 64',
      'diskRatio = 64',
      'reservedDiskGib = 0',
      // Disks of the laboratory are full by intent, and room that is made again is seen only with the next look.
      'poolWarningPercent = 100',
      'poolCriticalPercent = 100',
      ...poolSection(OTHER_POOL, this.otherPoolDir),
      ...poolSection(SHARED_POOL, this.sharedPoolDir),
      'shared = true',
      '[snapshots]',
      'mergeAutomatically = false',
      ...['[[keys]]', 'name = "disks"', `file = "${this.#keyPath}"`],
      // It outlives its node: no fault is about its disk.
      ...['[[objects]]', 'name = "backups"', `path = "${this.#objectsDir}"`],
      `backupKeyFile = "${this.#keyPath}"`,
      '[log]',
      'level = "debug"',
      '',
    ].join('\n');
  }
}

function poolSection(name: string, path: string): string[] {
  const room = ['diskRatio = 64', 'reservedDiskGib = 0', 'warningPercent = 100', 'criticalPercent = 100'];
  return ['[[pools]]', `name = "${name}"`, `path = "${path}"`, ...room];
}

/** An upload waits for bytes that nobody else sends: it is looked at more often. Seconds. */
function waitOf({ kind }: Operation): number {
  return kind === 'image.upload' ? 0 : 10;
}
