/** Where a daemon is, as a URI says it: what a transport is made from. */

export type Endpoint = UnixEndpoint | TcpEndpoint | TlsEndpoint | SshEndpoint;

export interface UnixEndpoint {
  transport: 'unix';
  /** Sockets in the order in which they are tried. */
  socketPaths: readonly [string, ...string[]];
}

export interface TcpEndpoint {
  transport: 'tcp';
  /** A name or an address, without brackets. */
  host: string;
  port: number;
}

export interface TlsEndpoint {
  transport: 'tls';
  host: string;
  port: number;
  /** Whether the server's certificate is checked. */
  verify: boolean;
  /** Folder that has the certificates instead of libvirt's own; null for libvirt's own. */
  pkiPath: string | null;
}

export interface SshEndpoint {
  transport: 'ssh';
  host: string;
  /** null leaves it to ssh and its configuration. */
  port: number | null;
  user: string | null;
  /** What the URI says of ssh itself; connect's options go before it. */
  settings: SshSettings;
  /** What runs on the other side. */
  remote: SshRemote;
}

export interface SshSettings {
  /** The ssh program. */
  command?: string;
  keyFile?: string;
  knownHostsFile?: string;
  hostKeys?: HostKeyPolicy;
}

/**
 * What becomes of a host whose key is not known. 'known': refused. 'acceptNew': its key is taken and kept; a changed
 * one is refused. 'acceptAny': nothing is checked, and anyone in between can read and change everything.
 */
export type HostKeyPolicy = 'known' | 'acceptNew' | 'acceptAny';

export interface SshRemote {
  /** What carries the bytes there: libvirt's virt-ssh-helper, netcat, or the first of them that is there. */
  proxy: 'auto' | 'native' | 'netcat';
  /** The netcat program. */
  netcat: string;
  /** Socket for netcat. */
  socketPath: string;
  /** URI for virt-ssh-helper, which finds the socket itself. */
  uri: string;
  readOnly: boolean;
}
