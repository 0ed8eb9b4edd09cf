/**
 * Opens a channel to a driver: transport, authentication, keepalive, and the driver's URI, in the order that the daemon
 * demands.
 */
import { authenticate, type Login } from '../auth/authenticate.ts';
import { CredentialSource } from '../auth/credentials.ts';
import { virConnectFlags, virErrorNumber } from '../constants.gen.ts';
import { errorFromReply, LibvirtError, LibvirtTransportError } from '../errors.ts';
import type { Procedures } from '../protocol/types.gen.ts';
import { withinTime } from '../transport/opening.ts';
import type { CallOptions } from './calls.ts';
import { Channel, type ChannelOptions } from './channel.ts';

export interface HandshakeOptions extends ChannelOptions {
  /** The driver's URI as the daemon sees it, for example qemu:///system. */
  uri: string;
  access: 'readWrite' | 'readOnly';
  /** @default No credentials, and the daemon chooses the way. */
  login?: Login | undefined;
  /** Milliseconds for each step: the transport, each call, and the caller's answer to a question for credentials. */
  callTimeoutMs: number;
}

const NO_LOGIN: Login = { credentials: new CredentialSource(undefined), wanted: null };

/** The daemon sends pings once it has been asked for this. @see VIR_DRV_FEATURE_PROGRAM_KEEPALIVE, libvirt_internal.h */
const FEATURE_PROGRAM_KEEPALIVE = 10;

/**
 * Connects, authenticates and opens the driver.
 *
 * @throws {LibvirtTransportError} unreachable, auth, timeout, aborted, closed.
 * @throws {LibvirtError} The daemon refuses the URI or the access.
 */
export async function openChannel(options: HandshakeOptions): Promise<Channel> {
  const { transport, login = NO_LOGIN, signal, callTimeoutMs: timeoutMs } = options;
  const channel = await withinTime({ timeoutMs, signal }, (ending) =>
    Channel.connect({ ...options, signal: ending }),
  );
  try {
    const call: CallOptions = { timeoutMs, signal };
    const { peer, privacy } = transport;
    await authenticate((name, args) => channel.call(name, args, call), {
      ...{ login, peer, privacy, timeoutMs, signal },
    });
    if (options.keepalive !== false) await agreeOnKeepalive(channel, call);
    await openDriver(channel, options, call);
    return channel;
  } catch (error) {
    channel.close();
    throw located(error, transport.peer);
  }
}

async function agreeOnKeepalive(channel: Channel, options: CallOptions): Promise<void> {
  const args = { feature: FEATURE_PROGRAM_KEEPALIVE };
  const reply = await channel.call('connectSupportsFeature', args, options);
  if ((reply as Procedures['connectSupportsFeature']['reply']).supported !== 0) channel.startKeepalive();
}

/** Says of which daemon an error is: while connecting that is the question. */
function located(error: unknown, peer: string): unknown {
  if (!(error instanceof LibvirtTransportError) || error.message.includes(peer)) return error;
  const { kind, message, cause } = error;
  return new LibvirtTransportError(kind, `cannot connect to libvirt at ${peer}: ${message}`, { cause });
}

async function openDriver(channel: Channel, options: HandshakeOptions, call: CallOptions): Promise<void> {
  const { uri, access, transport } = options;
  const flags = access === 'readOnly' ? virConnectFlags.VIR_CONNECT_RO : 0;
  try {
    await channel.call('connectOpen', { name: uri, flags }, call);
  } catch (error) {
    if (error instanceof LibvirtError) throw notOpened(error, uri, transport.peer);
    throw error;
  }
}

/** The daemon's refusal, and where it was asked: a host may have several daemons, each with other drivers. */
function notOpened(error: LibvirtError, uri: string, peer: string): LibvirtError {
  const { code, domain, level, procedure } = error;
  const hint = code === virErrorNumber.VIR_ERR_NO_CONNECT ? '; this daemon does not have that driver' : '';
  const message = `libvirt at ${peer} cannot open ${uri.slice(0, 200)}: ${error.message}${hint}`;
  return errorFromReply({ code, domain, level, message }, procedure);
}
