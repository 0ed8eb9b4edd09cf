/**
 * Peers: who is at the other end of a local connection, by the kernel's own word.
 */

/** As it was when the connection was made; the process may have ended since. */
export interface PeerCredentials {
  pid: number;
  uid: number;
  /** Name of the user; null where the host knows none. */
  user: string | null;
}

export interface Peers {
  /**
   * @param descriptor Descriptor of a connected unix socket; it stays open and is not read.
   * @throws {AgentError} UNAVAILABLE: the host can't be asked right now.
   */
  credentialsOf(descriptor: number): Promise<PeerCredentials>;
}
