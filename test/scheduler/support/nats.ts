/** A real NATS server on a free port, and gateways in processes of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { connect as dial, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { eventually } from './eventually.ts';

const PROGRAM = '/usr/sbin/nats-server';
const MAIN = join(import.meta.dirname, '../../../src/scheduler/main.ts');

/** Why there is none on this machine, for a test's skip; false where there is one. */
export const natsMissing: string | false = existsSync(PROGRAM)
  ? false
  : 'no nats-server here: scripts/bootstrap test';

export class NatsServer {
  #child: ChildProcess | null = null;
  port = 0;

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    this.port ||= await freePort();
    this.#child = spawn(PROGRAM, ['-a', '127.0.0.1', '-p', String(this.port)], { stdio: 'ignore' });
    await eventually(() => answers(this.port));
  }

  async stop(): Promise<void> {
    await kill(this.#child);
    this.#child = null;
  }
}

export class GatewayProcess {
  readonly #child: ChildProcess;
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** One for agents that show a bearer token. */
  static start(nats: NatsServer, folder: string, token: string): Promise<GatewayProcess> {
    const tokenFile = join(folder, 'gateway-token');
    writeFileSync(tokenFile, token, { mode: 0o600 });
    return GatewayProcess.launch(nats, ['--token-file', tokenFile]);
  }

  /** @param shown Arguments that say what it shows, and what agents show. */
  static async launch(nats: NatsServer, shown: readonly string[]): Promise<GatewayProcess> {
    const child = spawn(
      process.execPath,
      [
        '--conditions=berth-source',
        MAIN,
        'gateway',
        '--listen',
        '127.0.0.1:0',
        '--nats-url',
        nats.url,
        ...shown,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    for await (const line of createInterface(child.stdout!)) {
      const said = JSON.parse(line);
      if (said.address !== undefined) {
        child.stdout?.resume();
        return new GatewayProcess(child, said.address.port);
      }
      if (said.level >= 60) throw new Error(line);
    }
    throw new Error('the gateway has ended');
  }

  /** As a power cut ends it. */
  kill(): Promise<void> {
    return kill(this.#child);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGTERM');
    await once(this.#child, 'exit');
  }
}

/** Stands before several gateways: each connection goes to the next one that answers. */
export class Balancer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  ports: number[] = [];
  #next = 0;

  constructor() {
    this.#server = createServer((socket) => void this.#forward(socket));
  }

  async start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  async #forward(socket: Socket): Promise<void> {
    socket.on('error', () => socket.destroy());
    for (const _ of this.ports) {
      const port = this.ports[this.#next++ % this.ports.length]!;
      if (!(await answers(port))) continue;
      const other = dial(port, '127.0.0.1');
      for (const end of [socket, other]) this.#sockets.add(end);
      other.on('error', () => socket.destroy());
      other.on('close', () => socket.destroy());
      socket.on('close', () => other.destroy());
      socket.pipe(other).pipe(socket);
      return;
    }
    socket.destroy();
  }
}

function answers(port: number): Promise<boolean> {
  const socket = dial(port, '127.0.0.1');
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  }).finally(() => socket.destroy()) as Promise<boolean>;
}

async function kill(child: ChildProcess | null): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
