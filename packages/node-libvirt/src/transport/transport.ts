/**
 * A way to a daemon: something that opens connections which carry libvirt's frames.
 */
import type { Duplex } from 'node:stream';

export interface Transport {
  /** Where it leads, for error messages: "/run/libvirt/libvirt-sock", "host:16514". */
  readonly peer: string;
  /**
   * Opens a connection.
   *
   * @throws {LibvirtTransportError} unreachable: nobody listens, or it is refused; aborted: by `signal`.
   */
  open(signal: AbortSignal | undefined): Promise<Duplex>;
}
