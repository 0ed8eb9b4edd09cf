/**
 * The gateway that is measured: one berth-scheduler process, started, watched from outside and killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError } from '../src/model/errors.ts';
import type { GatewayAddress } from './agent.ts';
import { GatewayApi } from './api.ts';

const MAIN = join(import.meta.dirname, '../src/scheduler/main.ts');
/** Milliseconds that a gateway has to be ready, with ten thousand nodes in its database. */
const READY_LIMIT_MS = 60_000;
const READY_LOOK_MS = 20;
/** Milliseconds that it has to stop in order; then it is killed. */
const STOP_LIMIT_MS = 15_000;
/** In which the kernel tells CPU time. @see proc_pid_stat(5), sysconf(_SC_CLK_TCK) */
const TICKS_A_SECOND = 100;

/** What the process has taken so far. */
export interface Usage {
  rssBytes: number;
  /** Seconds of CPU, its threads together. */
  cpuSeconds: number;
}

export interface GatewayOptions {
  /** Its state, and its log as gateway.log. */
  folder: string;
  tls: boolean;
  heartbeatSeconds: number;
  /** Folder for its CPU profiles; null for none. A killed one leaves none. */
  cpuProf: string | null;
}

export class Gateway {
  readonly #options: GatewayOptions;
  readonly #port: number;
  #process: ChildProcess | null = null;
  #address: GatewayAddress | null = null;
  /** Why it could not be started. */
  #fault: Error | null = null;

  private constructor(options: GatewayOptions, port: number) {
    this.#options = options;
    this.#port = port;
  }

  /** On a free port of loopback, which it keeps when it starts again. */
  static async launch(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options, await freePort());
    await gateway.start();
    return gateway;
  }

  /** @throws {Error} before the first start */
  get address(): GatewayAddress {
    if (this.#address === null) throw new Error('the gateway has not started');
    return this.#address;
  }

  /** Resolves when it answers. @throws {AgentError} UNAVAILABLE: it does not, or has ended. */
  async start(): Promise<void> {
    const { folder, tls, heartbeatSeconds, cpuProf } = this.#options;
    const log = openSync(join(folder, 'gateway.log'), 'a', 0o600);
    const args = [
      ...(cpuProf === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${cpuProf}`]),
      ...['--conditions=berth-source', MAIN, '--listen', `127.0.0.1:${this.#port}`, '--state-dir', folder],
      ...['--heartbeat-seconds', String(heartbeatSeconds), '--log-level', 'warn'],
      ...(tls ? ['--ca'] : []),
    ];
    // It ends with this process, however this one ends. @see setpriv(1), of util-linux
    const command = ['--pdeathsig', 'KILL', process.execPath, ...args];
    // One that is installed has nothing to compile, either.
    const env = { ...process.env, NODE_COMPILE_CACHE: join(folder, 'compiled') };
    const child = spawn('setpriv', command, { stdio: ['ignore', log, log], env });
    closeSync(log);
    child.on('error', (error) => {
      this.#fault = error;
    });
    this.#process = child;
    await this.#ready(child);
  }

  /** As a crash: nothing is said to anyone. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async stop(): Promise<void> {
    const child = this.#process;
    const timer = setTimeout(() => child?.kill('SIGKILL'), STOP_LIMIT_MS);
    await this.#end('SIGTERM');
    clearTimeout(timer);
  }

  /** @throws {AgentError} UNAVAILABLE: it does not run. */
  usage(): Usage {
    const pid = this.#process?.pid;
    if (pid === undefined) throw this.#gone();
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const [, rssKib = '0'] = /^VmRSS:\s+(\d+) kB/m.exec(status) ?? [];
    // The name, which may have spaces, ends with the last bracket; utime and stime are fields 14 and 15.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { rssBytes: Number(rssKib) * 1024, cpuSeconds: ticks / TICKS_A_SECOND };
  }

  async #ready(child: ChildProcess): Promise<void> {
    const giveUpAt = performance.now() + READY_LIMIT_MS;
    while (performance.now() < giveUpAt) {
      if (this.#fault !== null || child.exitCode !== null || child.signalCode !== null) break;
      if (await this.#answers()) return;
      await sleep(READY_LOOK_MS);
    }
    throw this.#gone();
  }

  async #answers(): Promise<boolean> {
    const { folder, tls } = this.#options;
    try {
      const at = `127.0.0.1:${this.#port}`;
      const address = {
        url: `${tls ? 'wss' : 'ws'}://${at}`,
        api: `${tls ? 'https' : 'http'}://${at}`,
        token: readFileSync(join(folder, 'token'), 'utf8').trim(),
        ca: tls ? readFileSync(join(folder, 'ca/ca.pem'), 'utf8') : null,
      };
      const api = new GatewayApi(address, 1);
      try {
        await api.ask('GET', '/healthz');
      } finally {
        api.close();
      }
      this.#address = address;
      return true;
    } catch {
      return false; // it is not up yet, and is looked at again until it is given up
    }
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.pid === undefined || child.exitCode !== null || child.signalCode !== null)
      return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  #gone(): AgentError {
    return new AgentError('UNAVAILABLE', 'The gateway does not run', {
      cause: this.#fault,
      hint: `Its log is ${join(this.#options.folder, 'gateway.log')}.`,
    });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
