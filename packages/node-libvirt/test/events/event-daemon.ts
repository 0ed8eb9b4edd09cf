/**
 * A fake daemon that keeps registrations of events as libvirtd does: numbers go up for ever, each family has its own,
 * and a client that registers the same twice is refused.
 */
import type { Test } from 'tap';
import { type ConnectOptions, connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import { procedureNamed } from '../../src/protocol/procedures.ts';
import { MESSAGES, PROGRAMS } from '../../src/protocol/schema.gen.ts';
import type { Messages } from '../../src/protocol/types.gen.ts';
import { encodeFrame, type Frame, MessageType } from '../../src/rpc/framing.ts';
import { codecOf } from '../../src/xdr/codec.ts';
import { XdrReader } from '../../src/xdr/reader.ts';
import { FakeDaemon, type Peer, replyFrame } from '../support/fake-daemon.ts';

export interface Registered {
  number: number;
  peer: Peer;
  family: string;
  args: Record<string, unknown>;
}

/** Procedures by family, as the daemon sees them. */
const REGISTER = {
  domain: 'connectDomainEventCallbackRegisterAny',
  network: 'connectNetworkEventRegisterAny',
  storagePool: 'connectStoragePoolEventRegisterAny',
  nodeDevice: 'connectNodeDeviceEventRegisterAny',
  secret: 'connectSecretEventRegisterAny',
  qemuMonitor: 'qemuConnectDomainMonitorEventRegister',
} as const;
const DEREGISTER = {
  domain: 'connectDomainEventCallbackDeregisterAny',
  network: 'connectNetworkEventDeregisterAny',
  storagePool: 'connectStoragePoolEventDeregisterAny',
  nodeDevice: 'connectNodeDeviceEventDeregisterAny',
  secret: 'connectSecretEventDeregisterAny',
  qemuMonitor: 'qemuConnectDomainMonitorEventDeregister',
} as const;
type Family = keyof typeof REGISTER;

const VIR_ERR_INVALID_ARG = 8;

export class EventDaemon {
  readonly fake: FakeDaemon;
  registered: Registered[] = [];
  /** Calls that libvirtd would refuse: a client that makes one has lost count. */
  readonly mistakes: string[] = [];
  /** Runs instead of a reply; `answer` gives it later. Null answers at once. */
  delay:
    | ((call: { procedure: string; peer: Peer; args: Record<string, unknown> }, answer: () => void) => void)
    | null = null;
  readonly #next = new Map<Family, number>();

  static async start(): Promise<EventDaemon> {
    return new EventDaemon(await FakeDaemon.start());
  }

  private constructor(fake: FakeDaemon) {
    this.fake = fake;
    for (const family of Object.keys(REGISTER) as Family[]) {
      this.#on(REGISTER[family], (peer, call, args) => this.#register(family, peer, call, args));
      this.#on(DEREGISTER[family], (peer, call, args) => this.#deregister(family, peer, call, args));
    }
  }

  /** Sends a message for one registration. */
  send<M extends keyof Messages>({ peer, number }: Registered, message: M, fields: object): void {
    peer.socket.write(messageFrame(message, { callbackID: number, ...fields }));
  }

  /** Sends a lifecycle event of a domain to all whom it concerns. */
  lifecycle(name: string, of: readonly Registered[] = this.registered): void {
    for (const one of of) {
      const dom = one.args['dom'] as { name: string } | null;
      if (one.family === 'domain' && (dom === null || dom.name === name)) this.#lifecycleTo(one, name);
    }
  }

  callsOf(procedure: string): Record<string, unknown>[] {
    return this.fake.callsOf(procedure).map((frame) => argsOf(procedure, frame));
  }

  #lifecycleTo({ peer, number }: Registered, name: string): void {
    peer.socket.write(lifecycleFrame(number, name));
  }

  #on(procedure: string, handler: (peer: Peer, call: Frame, args: Record<string, unknown>) => void): void {
    this.fake.on(procedure, (peer, call) => {
      const args = argsOf(procedure, call);
      const answer = () => handler(peer, call, args);
      if (this.delay === null) answer();
      else this.delay({ procedure, peer, args }, answer);
    });
  }

  #register(family: Family, peer: Peer, call: Frame, args: Record<string, unknown>): void {
    const wish = JSON.stringify(args);
    const isThere = this.registered.some(
      (one) => one.peer === peer && one.family === family && JSON.stringify(one.args) === wish,
    );
    if (isThere) {
      this.#refuse(peer, call, 'event callback already tracked');
      return;
    }
    const number = this.#next.get(family) ?? 1;
    this.#next.set(family, number + 1);
    this.registered.push({ number, peer, family, args });
    peer.socket.once('close', () => {
      this.registered = this.registered.filter((one) => one.peer !== peer);
    });
    peer.socket.write(replyFrame(call, (w) => w.int(number)));
  }

  #deregister(family: Family, peer: Peer, call: Frame, args: Record<string, unknown>): void {
    const index = this.registered.findIndex(
      (one) => one.peer === peer && one.family === family && one.number === args['callbackID'],
    );
    if (index < 0) {
      this.#refuse(peer, call, `no callback ${args['callbackID']}`);
      return;
    }
    this.registered.splice(index, 1);
    peer.reply(call);
  }

  #refuse(peer: Peer, call: Frame, message: string): void {
    this.mistakes.push(message);
    peer.refuse(call, VIR_ERR_INVALID_ARG, message);
  }
}

export interface Pair {
  daemon: EventDaemon;
  connection: Connection;
  /** Ends both. @throws {Error} The client has made a mistake. */
  end(): Promise<void>;
}

/** A daemon and a connection to it. */
export async function openPair(options: ConnectOptions = {}): Promise<Pair> {
  const daemon = await EventDaemon.start();
  const connection = await connect('test:///default', {
    socketPath: daemon.fake.socketPath,
    reconnect: { initialMs: 1, maxMs: 10 },
    ...options,
  });
  const end = async () => {
    await connection.close();
    await daemon.fake[Symbol.asyncDispose]();
    if (daemon.mistakes.length > 0) throw new Error(`refused: ${daemon.mistakes}`);
  };
  return { daemon, connection, end };
}

/** The same, until the end of the test. */
export async function setup(t: Test, options: ConnectOptions = {}): Promise<Omit<Pair, 'end'>> {
  const { end, ...pair } = await openPair(options);
  t.teardown(end);
  return pair;
}

export function messageFrame(message: keyof Messages, body: object): Buffer {
  const [key = '', [, base] = []] = Object.entries(MESSAGES).find(([, [name]]) => name === message) ?? [];
  const [program = '', number = ''] = key.split(' ');
  const header = {
    program: PROGRAMS[program as keyof typeof PROGRAMS],
    procedure: Number(number),
    type: MessageType.message,
    serial: 0,
    status: 0,
  };
  return encodeFrame(header, (writer) => codecOf(`${base}_msg`).encode(writer, body));
}

/** A lifecycle event of a domain: started, booted. */
export function lifecycleFrame(number: number, name: string): Buffer {
  const msg = { dom: domainNamed(name), event: 2, detail: 0 };
  return messageFrame('domainEventCallbackLifecycle', { callbackID: number, msg });
}

/** What names a domain; its UUID follows from its name. */
export function domainNamed(name: string): { name: string; uuid: string; id: number } {
  const digits = Buffer.from(name.padEnd(16)).toString('hex').slice(0, 32);
  const uuid = digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  return { name, uuid, id: 7 };
}

function argsOf(procedure: string, call: Frame): Record<string, unknown> {
  return procedureNamed(procedure).args?.decode(new XdrReader(call.body)) as Record<string, unknown>;
}
