/**
 * Logs in to a daemon, in the way that it demands.
 *
 * The first call on a connection must ask which way that is: nothing at all, polkit, which decides by who runs this
 * process, or SASL with a name and a password. Every refusal is a LibvirtTransportError of kind 'auth'; what the daemon
 * said is its cause.
 *
 * @see remoteAuthenticate, remote_driver.c
 */
import { LibvirtError, LibvirtTransportError } from '../errors.ts';
import { withinLimits } from '../limits.ts';
import type { Procedures } from '../protocol/types.gen.ts';
import type { Privacy } from '../transport/transport.ts';
import type { WantedAuth } from '../uri.ts';
import type { CredentialSource } from './credentials.ts';
import { type Call, chooseMechanism, saslClient, saslExchange } from './sasl.ts';

/** What a Connection has to log in with. */
export interface Login {
  credentials: CredentialSource;
  /** What the URI demands; null leaves it to the daemon. */
  wanted: WantedAuth | null;
}

export interface AuthenticateOptions {
  login: Login;
  /** The daemon, for error messages. */
  peer: string;
  privacy: Privacy;
  /** Milliseconds that the caller may take to give credentials. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

type AuthType = 'none' | 'sasl' | 'polkit';

/** @see remote_auth_type, remote_protocol.x */
const AUTH_TYPES: ReadonlyMap<number, AuthType> = new Map([
  [0, 'none'],
  [1, 'sasl'],
  [2, 'polkit'],
]);

/** @throws {LibvirtTransportError} auth; protocol; or no answer. */
export async function authenticate(call: Call, options: AuthenticateOptions): Promise<void> {
  const { types } = (await call('authList', undefined)) as Procedures['authList']['reply'];
  const type = chosenType(types, options);
  switch (type) {
    case 'none':
      return;
    case 'polkit':
      await refusable(
        call('authPolkit', undefined),
        `polkit does not allow the connection to ${options.peer}`,
      );
      return;
    case 'sasl':
      return logIn(call, options);
    default:
      return type satisfies never;
  }
}

function chosenType(types: readonly number[], { login, peer }: AuthenticateOptions): AuthType {
  const offered = types.map((type) => AUTH_TYPES.get(type) ?? `type ${type}`);
  if (login.wanted !== null) {
    if (offered.includes(login.wanted.type)) return login.wanted.type;
    throw cannotLogIn(peer, `the URI wants ${login.wanted.type}, and it has ${offered.join(', ') || 'none'}`);
  }
  if (types.length === 0 || offered.includes('none')) return 'none';
  const [known] = types.flatMap((type) => AUTH_TYPES.get(type) ?? []);
  if (known === undefined) throw cannotLogIn(peer, `it wants ${offered.join(', ')}, which is not known here`);
  return known;
}

/** libvirtd demands that SASL encrypts where nothing else does; of the mechanisms that can, this library has none. */
async function logIn(call: Call, options: AuthenticateOptions): Promise<void> {
  const { login, peer, privacy } = options;
  if (privacy === 'none')
    throw cannotLogIn(peer, 'names and passwords are not sent over bare TCP: use the transport tls or ssh');
  if (!login.credentials.isThere)
    throw cannotLogIn(peer, 'it wants a user name and a password (SASL): give `auth` to connect');
  const init = refusable(call('authSaslInit', undefined), `libvirt at ${peer} has no SASL`);
  const { mechlist } = (await init) as Procedures['authSaslInit']['reply'];
  const mechanism = chooseMechanism(mechlist, { wanted: login.wanted?.mechanism ?? null, privacy, peer });
  const asked = login.credentials.get({ peer, mechanism });
  const client = saslClient(mechanism, await withinLimits(asked, 'auth', options));
  const refusal = `libvirt at ${peer} refused the user name or the password (${mechanism})`;
  try {
    await refusable(saslExchange(call, mechanism, client, peer), refusal);
  } catch (error) {
    if (error instanceof LibvirtTransportError && error.kind === 'auth') login.credentials.forget();
    throw error;
  }
}

/** @throws {LibvirtTransportError} auth, when the daemon refuses. */
async function refusable<T>(promise: Promise<T>, refusal: string): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof LibvirtError) throw new LibvirtTransportError('auth', refusal, { cause: error });
    throw error;
  }
}

function cannotLogIn(peer: string, why: string): LibvirtTransportError {
  return new LibvirtTransportError('auth', `cannot log in to libvirt at ${peer}: ${why}`);
}
