/**
 * SASL over libvirt's calls: choosing a mechanism, and the exchange.
 *
 *   authSaslInit ──► the daemon's mechanisms ──► authSaslStart ──► authSaslStep … until both sides are done
 *
 * Promises: a password is shown (PLAIN) only over a way that nobody else reads, to a peer that is known; an exchange that
 * the daemon calls complete before it has proven itself is an error; the number of steps is bounded.
 *
 * @see remoteAuthSASL, remote_driver.c; remoteDispatchAuthSaslInit, remote_daemon_dispatch.c
 */
import { LibvirtTransportError } from '../errors.ts';
import type { Procedures } from '../protocol/types.gen.ts';
import type { Privacy } from '../transport/transport.ts';
import type { Credentials } from './credentials.ts';
import { type SaslClient, SaslError } from './mechanism.ts';
import { PlainClient } from './plain.ts';
import { SCRAM_HASHES, ScramClient, type ScramName } from './scram.ts';

/** Calls a procedure on the channel that logs in. */
export type Call = (name: string, args: unknown) => Promise<unknown>;

/** Steps of one exchange after its start. SCRAM takes one or two. */
const STEPS_MAX = 4;

/** Mechanisms in the order in which they are preferred. */
const MECHANISMS = [...(Object.keys(SCRAM_HASHES) as ScramName[]), 'PLAIN'] as const;

export type MechanismName = (typeof MECHANISMS)[number];

type Reply = Procedures['authSaslStart']['reply'];

/**
 * @param list The daemon's mechanisms, with commas.
 * @param wanted The one that the URI demands; null for the best.
 * @throws {LibvirtTransportError} auth: none fits.
 */
export function chooseMechanism(
  list: string,
  options: { wanted: string | null; privacy: Privacy; peer: string },
): MechanismName {
  const { wanted, privacy, peer } = options;
  const offered = list.split(/[, ]+/).filter((name) => /^[A-Z0-9_-]{1,20}$/.test(name));
  const usable = MECHANISMS.filter((name) => offered.includes(name) && (wanted ?? name) === name);
  const chosen = usable.find((name) => name !== 'PLAIN' || privacy === 'private');
  if (chosen !== undefined) return chosen;
  throw authError(
    peer,
    usable.includes('PLAIN')
      ? 'PLAIN would show the password to a server that is not verified'
      : `it offers ${offered.join(', ') || 'nothing'}; supported here are ${wanted ?? MECHANISMS.join(', ')}`,
  );
}

export function saslClient(name: MechanismName, credentials: Credentials): SaslClient {
  return name === 'PLAIN' ? new PlainClient(credentials) : new ScramClient(name, credentials);
}

/**
 * Runs the exchange to its end.
 *
 * @throws {LibvirtError} The daemon's refusal.
 * @throws {LibvirtTransportError} auth: the daemon did not prove itself; protocol; or no answer.
 */
export async function saslExchange(
  call: Call,
  mechanism: MechanismName,
  client: SaslClient,
  peer: string,
): Promise<void> {
  const args = { mech: mechanism, ...toWire(client.start()) };
  let reply = (await call('authSaslStart', args)) as Reply;
  for (let steps = 0; !(reply.complete && client.isDone); steps++) {
    if (steps === STEPS_MAX) throw authError(peer, `${mechanism} came to no end in ${STEPS_MAX} steps`);
    const response = client.isDone ? null : await stepOf(client, fromWire(reply), peer);
    if (reply.complete && client.isDone) return;
    if (reply.complete) throw authError(peer, 'it let us in without proving that it knows the password');
    reply = (await call('authSaslStep', toWire(response))) as Reply;
  }
}

async function stepOf(client: SaslClient, challenge: Buffer | null, peer: string): Promise<Buffer | null> {
  try {
    return await client.step(challenge);
  } catch (error) {
    if (!(error instanceof SaslError)) throw error;
    throw new LibvirtTransportError(error.kind, `cannot log in to libvirt at ${peer}: ${error.message}`);
  }
}

function authError(peer: string, why: string): LibvirtTransportError {
  return new LibvirtTransportError('auth', `cannot log in to libvirt at ${peer}: ${why}`);
}

/** The protocol has `char` for bytes, which C signs. */
function toWire(data: Buffer | null): { nil: number; data: number[] } {
  return data === null ? { nil: 1, data: [] } : { nil: 0, data: [...new Int8Array(data)] };
}

function fromWire({ nil, data }: { nil: number; data: number[] }): Buffer | null {
  return nil === 0 ? Buffer.from(data) : null;
}
