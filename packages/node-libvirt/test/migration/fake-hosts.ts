/**
 * Two fake daemons that keep the protocol of migration, until a test has them do otherwise; both write down in one list
 * what they are asked.
 */
import type { Test } from 'tap';
import { type Connection, connect, constants, type Domain } from '../../src/index.ts';
import { procedureNamed } from '../../src/protocol/procedures.ts';
import type { Frame } from '../../src/rpc/framing.ts';
import { XdrReader } from '../../src/xdr/reader.ts';
import { FakeDaemon, type Peer } from '../support/fake-daemon.ts';

export type HostName = 'source' | 'destination';

/** One call that a daemon got. */
export interface Asked {
  host: HostName;
  /** For example 'begin', 'abortJob'. */
  what: string;
  args: Record<string, unknown>;
  peer: Peer;
}

/** What a daemon does with a call: answers, refuses, loses the connection, or says nothing. */
export type Reaction =
  | Record<string, unknown>
  | { refuse: number; message?: string }
  | 'lose'
  | 'nothing'
  | undefined;

/** @param asked The call; its peer can be answered later. */
export type Script = (asked: Asked, answer: (reaction: Reaction) => void) => Reaction;

/** Names of the procedures that take part, and what they are called here. */
const PROCEDURES = {
  domainMigrateBegin3Params: 'begin',
  domainMigratePrepare3Params: 'prepare',
  domainMigratePerform3Params: 'perform',
  domainMigrateFinish3Params: 'finish',
  domainMigrateConfirm3Params: 'confirm',
  domainGetState: 'getState',
  domainAbortJob: 'abortJob',
  domainLookupByName: 'lookup',
} as const;

const DOM = { name: 'nlm', uuid: 'abababab-abab-abab-abab-abababababab', id: 7 };

/** Answers of daemons at which nothing goes wrong. Each cookie says where it comes from. */
function wellBehaved({ what, args }: Asked): Reaction {
  switch (what) {
    case 'begin':
      return { cookie_out: cookie(what), xml: '<domain/>' };
    case 'prepare':
      return { cookie_out: cookie(what), uri_out: 'tcp://there:49152' };
    case 'perform':
      return { cookie_out: cookie(what) };
    case 'finish':
      if (args['cancelled'] === 1) return { refuse: constants.virErrorNumber.VIR_ERR_MIGRATE_FINISH_OK };
      return { dom: { ...DOM, id: 3 }, cookie_out: cookie(what) };
    case 'getState':
      return { state: constants.virDomainState.VIR_DOMAIN_RUNNING, reason: 0 };
    case 'lookup':
      return { dom: { ...DOM, id: 3 } };
    default:
      return undefined;
  }
}

function cookie(from: string): Buffer {
  return Buffer.from(`of ${from}`);
}

export interface FakeHosts {
  domain: Domain;
  source: Connection;
  destination: Connection;
  daemons: Readonly<Record<HostName, FakeDaemon>>;
  asked: Asked[];
  /** What was asked, in order: 'source begin'. */
  steps(): string[];
  /** The last call of this name. */
  last(what: string): Asked;
}

/** @param script Its reactions go before those of a daemon that behaves well. */
export async function fakeHosts(t: Test, script: Script = () => undefined): Promise<FakeHosts> {
  const asked: Asked[] = [];
  const hear = (host: HostName, daemon: FakeDaemon) => {
    for (const [procedure, what] of Object.entries(PROCEDURES)) {
      daemon.on(procedure, (peer, call) => {
        const one = { host, what, args: argsOf(procedure, call), peer };
        asked.push(one);
        const answer = (reaction: Reaction) => react(peer, call, procedure, reaction ?? wellBehaved(one));
        answer(script(one, answer));
      });
    }
  };
  const source = await fakeHost(t, (daemon) => hear('source', daemon));
  const destination = await fakeHost(t, (daemon) => hear('destination', daemon));
  return {
    domain: source.connection.objects.domain(DOM),
    source: source.connection,
    destination: destination.connection,
    daemons: { source: source.daemon, destination: destination.daemon },
    asked,
    steps: () => asked.map(({ host, what }) => `${host} ${what}`),
    last: (what) => asked.findLast((one) => one.what === what)!,
  };
}

async function fakeHost(
  t: Test,
  hear: (daemon: FakeDaemon) => void,
): Promise<{ daemon: FakeDaemon; connection: Connection }> {
  const daemon = await FakeDaemon.start();
  hear(daemon);
  const connection = await connect('test:///default', {
    socketPath: daemon.socketPath,
    reconnect: false,
  });
  t.teardown(async () => {
    await connection.close();
    await daemon[Symbol.asyncDispose]();
  });
  return { daemon, connection };
}

function argsOf(procedure: string, call: Frame): Record<string, unknown> {
  return procedureNamed(procedure).args?.decode(new XdrReader(call.body)) as Record<string, unknown>;
}

function react(peer: Peer, call: Frame, procedure: string, reaction: Reaction): void {
  if (reaction === 'nothing') return;
  if (reaction === 'lose') peer.socket.destroy();
  else if (reaction !== undefined && 'refuse' in reaction)
    peer.refuse(call, Number(reaction['refuse']), String(reaction['message'] ?? procedure));
  else peer.reply(call, (writer) => procedureNamed(procedure).reply?.encode(writer, reaction));
}
