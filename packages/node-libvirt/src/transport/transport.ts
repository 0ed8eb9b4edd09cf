/**
 * A way to a daemon: something that opens connections which carry libvirt's frames.
 */
import type { Duplex } from 'node:stream';

export interface Transport {
  /** Where it leads, for error messages: "/run/libvirt/libvirt-sock", "host.example:16514". */
  readonly peer: string;
  readonly privacy: Privacy;
  /**
   * Opens a connection.
   *
   * @param signal Ends the attempt. Its reason is an OpeningTimeout when time is over; see opening.ts.
   * @throws {LibvirtTransportError} unreachable: nobody listens, or it is refused; auth: one side does not accept the
   *   other; timeout; aborted.
   */
  open(signal: AbortSignal): Promise<Duplex>;
}

/**
 * Who else could read what goes over it. 'private': nobody. 'unverified': encrypted, but for a peer that may be anyone.
 * 'none': everybody on the way.
 */
export type Privacy = 'private' | 'unverified' | 'none';
