/**
 * What the two hosts' drivers can do of migrations. Both are asked before anything is begun.
 */
import type { Connection } from '../connection.ts';
import { virErrorDomain, virErrorLevel, virErrorNumber } from '../constants.gen.ts';
import { LibvirtUnsupportedError } from '../errors.ts';
import type { CallOptions } from '../rpc/calls.ts';

/** @see virDrvFeature, libvirt_internal.h */
export const Feature = { peerToPeer: 4, changeProtection: 7, offline: 12, params: 13 } as const;

export type FeatureNumber = (typeof Feature)[keyof typeof Feature];

export async function supports(
  connection: Connection,
  feature: FeatureNumber,
  { signal }: CallOptions,
): Promise<boolean> {
  return (await connection.call('connectSupportsFeature', { feature }, { signal })).supported !== 0;
}

/**
 * @param what For example 'offline migration'.
 * @param host For example 'source'.
 * @throws {LibvirtUnsupportedError} VIR_ERR_ARGUMENT_UNSUPPORTED, as libvirt's own client.
 */
export async function requireFeature(
  connection: Connection,
  { feature, what, host }: { feature: FeatureNumber; what: string; host: string },
  options: CallOptions,
): Promise<void> {
  if (!(await supports(connection, feature, options)))
    throw unsupported(`${what} is not supported by the ${host} host`);
}

export function unsupported(message: string): LibvirtUnsupportedError {
  const reply = {
    code: virErrorNumber.VIR_ERR_ARGUMENT_UNSUPPORTED,
    domain: virErrorDomain.VIR_FROM_DOMAIN,
    level: virErrorLevel.VIR_ERR_ERROR,
    message,
  };
  return new LibvirtUnsupportedError(reply, 'connectSupportsFeature');
}
