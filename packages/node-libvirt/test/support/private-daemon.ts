/**
 * A libvirt daemon of a test's own, that may be stopped, started again, frozen, killed and configured.
 *
 *   const daemon = await startPrivateDaemon(t, { conf: { max_clients: 3 } });
 *   await using connection = await connect('test:///default', { socketPath: daemon.socketPath });
 *
 * It runs on a private host (private-host.ts) and ends with the test, with all that it has started.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { procedureNamed } from '../../src/protocol/procedures.ts';
import { encodeFrame, MessageType } from '../../src/rpc/framing.ts';
import {
  type Conf,
  commandOf,
  confText,
  type HostOptions,
  hostMissing,
  PrivateHost,
  type TestScope,
} from './private-host.ts';
import { until } from './until.ts';

export interface DaemonOptions {
  /** Settings of the daemon's own configuration file, libvirtd.conf for libvirtd, besides DEFAULT_CONF. */
  conf?: Conf | undefined;
  /** More arguments, for example '--listen'. */
  args?: readonly string[] | undefined;
  /** Added to its environment. */
  env?: Readonly<Record<string, string>> | undefined;
}

export interface PrivateDaemonOptions extends DaemonOptions, HostOptions {
  /** @default 'libvirtd' */
  daemon?: string | undefined;
}

/** Whoever may open the socket is let in: there is no polkit inside. */
const DEFAULT_CONF: Conf = { auth_unix_rw: 'none', auth_unix_ro: 'none' };

/** Lines of a log that an error or a failed test shows. */
const LOG_LINES = 30;

/** How long one look waits for the daemon's answer, ms; then the next look comes. */
const ANSWER_MS = 1_000;

/** Bound of a start or an end, ms: some 300 on an idle machine, but a daemon waits 30 s for calls that hang. */
const CHANGE_MS = 60_000;

/** REMOTE_PROGRAM. @see remote_protocol.x */
const REMOTE_PROGRAM = 0x20008086;

/** Why no private daemon can be started here, or false: `t.test(name, { skip: daemonMissing() }, …)`. */
export function daemonMissing({ root = '', daemon = 'libvirtd' }: PrivateDaemonOptions = {}): string | false {
  const path = join(root, 'usr', 'sbin', daemon);
  return hostMissing() || (existsSync(join('/', path)) ? false : `needs ${path}`);
}

/** Starts a daemon on a private host of its own, and waits until it answers. @throws {Error} with the end of its log. */
export async function startPrivateDaemon(
  t: TestScope,
  options: PrivateDaemonOptions = {},
): Promise<PrivateDaemon> {
  const host = await PrivateHost.create(t, options);
  return startDaemonOn(host, t, options);
}

/** Starts one more daemon on a private host. */
export async function startDaemonOn(
  host: PrivateHost,
  t: TestScope,
  options: DaemonOptions & { daemon?: string | undefined } = {},
): Promise<PrivateDaemon> {
  const daemon = new PrivateDaemon(host, options.daemon ?? 'libvirtd', options);
  t.teardown(() => {
    if (!t.passing()) t.comment(daemon.logTail());
  });
  await daemon.start();
  return daemon;
}

export class PrivateDaemon {
  readonly name: string;
  readonly host: PrivateHost;
  readonly socketPath: string;
  readonly readOnlySocketPath: string;
  /** What it and its children print. */
  readonly logPath: string;
  readonly #argv: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #pid: number | null = null;

  /** @internal Use startPrivateDaemon or startDaemonOn. */
  constructor(host: PrivateHost, name: string, options: DaemonOptions) {
    this.host = host;
    this.name = name;
    const socket = ['libvirtd', 'virtproxyd'].includes(name) ? 'libvirt' : name;
    this.socketPath = join(host.socketDir, `${socket}-sock`);
    this.readOnlySocketPath = `${this.socketPath}-ro`;
    this.logPath = join(host.dir, `${name}.log`);
    const confPath = join(host.dir, 'etc', `${name}.conf`);
    writeFileSync(confPath, confText({ ...DEFAULT_CONF, host_uuid: randomUUID(), ...options.conf }));
    this.#argv = [name, '--config', confPath, ...(options.args ?? [])];
    this.#env = options.env ?? {};
  }

  get socketDir(): string {
    return this.host.socketDir;
  }

  /** Process id as this test sees it. @throws {Error} It does not run. */
  get pid(): number {
    if (this.#pid === null || this.#hasEnded)
      throw new Error(`${this.name} does not run:\n${this.logTail()}`);
    return this.#pid;
  }

  /** Starts it, and waits until it answers. */
  async start(): Promise<void> {
    this.#pid = await this.host.spawn(this.#argv, { env: this.#env, logPath: this.logPath });
    await until(() => this.#answers(), `${this.name} answers`, CHANGE_MS).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.logTail()}`);
    });
  }

  /** Ends it in the orderly way. Its guests go on. */
  stop(): Promise<void> {
    return this.#end('SIGTERM');
  }

  /** Ends it at once. Its guests go on. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** It hangs, with its sockets open, until it is thawed. */
  freeze(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** The end of its log. */
  logTail(): string {
    if (!existsSync(this.logPath)) return `${this.name} has written no log`;
    return readFileSync(this.logPath, 'utf8').trimEnd().split('\n').slice(-LOG_LINES).join('\n');
  }

  /** It begins as a shell. */
  get #hasEnded(): boolean {
    return this.#pid === null || commandOf(this.#pid) === '';
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    process.kill(this.pid, signal);
    await until(() => this.#hasEnded, `${this.name} has ended`, CHANGE_MS);
  }

  async #answers(): Promise<boolean> {
    if (this.#hasEnded) throw new Error(`${this.name} has ended`);
    return answersAt(this.socketPath);
  }
}

/** Whether a daemon answers the first call that every client makes. It accepts connections long before it does. */
function answersAt(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const header = {
    program: REMOTE_PROGRAM,
    procedure: procedureNamed('authList').number,
    type: MessageType.call,
    serial: 1,
    status: 0,
  };
  const socket = net.createConnection(path, () => socket.write(encodeFrame(header)));
  const settle = (answer: boolean) => {
    socket.destroy();
    resolve(answer);
  };
  socket.once('data', () => settle(true));
  socket.once('close', () => settle(false));
  socket.once('error', () => settle(false));
  socket.setTimeout(ANSWER_MS, () => settle(false));
  return promise;
}
