/**
 * Opens a channel to a driver: authentication, keepalive, and the driver's URI, in the order that the daemon demands.
 */
import { virConnectFlags } from '../constants.gen.ts';
import { LibvirtTransportError } from '../errors.ts';
import type { Procedures } from '../protocol/types.gen.ts';
import type { CallOptions } from './calls.ts';
import { Channel, type ChannelOptions } from './channel.ts';

export interface HandshakeOptions extends ChannelOptions {
  /** The driver's URI as the daemon sees it, for example qemu:///system. */
  uri: string;
  access: 'readWrite' | 'readOnly';
  callTimeoutMs: number;
}

/** @see remote_auth_type, remote_protocol.x */
const AUTH_NONE = 0;
const AUTH_POLKIT = 2;

/** The daemon sends pings once it has been asked for this. @see VIR_DRV_FEATURE_PROGRAM_KEEPALIVE, libvirt_internal.h */
const FEATURE_PROGRAM_KEEPALIVE = 10;

/**
 * Connects, authenticates and opens the driver.
 *
 * @throws {LibvirtTransportError} unreachable, auth, timeout, aborted, closed.
 * @throws {LibvirtError} The daemon refuses the URI or the access.
 */
export async function openChannel(options: HandshakeOptions): Promise<Channel> {
  const channel = await Channel.connect(options);
  try {
    const call: CallOptions = { timeoutMs: options.callTimeoutMs, signal: options.signal };
    await authenticate(channel, call);
    if (options.keepalive !== false) await agreeOnKeepalive(channel, call);
    const flags = options.access === 'readOnly' ? virConnectFlags.VIR_CONNECT_RO : 0;
    await channel.call('connectOpen', { name: options.uri, flags }, call);
    return channel;
  } catch (error) {
    channel.close();
    throw error;
  }
}

/** The first call on a connection must ask which authentication is wanted. */
async function authenticate(channel: Channel, options: CallOptions): Promise<void> {
  const { types } = (await channel.call('authList', undefined, options)) as Procedures['authList']['reply'];
  if (types.length === 0 || types.includes(AUTH_NONE)) return;
  if (!types.includes(AUTH_POLKIT))
    throw new LibvirtTransportError('auth', `libvirt wants authentication of type ${types}`);
  await channel.call('authPolkit', undefined, options);
}

async function agreeOnKeepalive(channel: Channel, options: CallOptions): Promise<void> {
  const args = { feature: FEATURE_PROGRAM_KEEPALIVE };
  const reply = await channel.call('connectSupportsFeature', args, options);
  if ((reply as Procedures['connectSupportsFeature']['reply']).supported !== 0) channel.startKeepalive();
}
