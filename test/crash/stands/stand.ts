/**
 * A stand: a host with one node on it, which can be looked at without asking the node.
 *
 * What a host has is told in lines, each a kind and its name: `guest ID running`, `file volumes/ID.qcow2`,
 * `bridge bb-…`, `tap bt-… on bb-…`, `port NETWORK PORT`; a real host also has `table`, `dnsmasq`, `folder`,
 * `qemu` and `process`.
 */
import type { Lending } from './lent.ts';
import type { LabNode } from '../node/lab-node.ts';
import type { Disk } from './disk.ts';

export type DriverName = 'sim' | 'libvirt';
export const DRIVERS: readonly DriverName[] = ['sim', 'libvirt'];

export interface Stand {
  readonly driver: DriverName;
  readonly node: LabNode;
  /** What can be imported as an image. */
  readonly image: { source: string; format: 'raw' | 'qcow2' };
  /** The file systems of the state folder and of the pool; null where none can be mounted. */
  readonly stateDisk: Disk | null;
  readonly poolDisk: Disk | null;
  /** Of the hypervisor; null for a simulated one. */
  readonly daemon: HypervisorDaemon | null;

  /** What there is, by the host's own tools. */
  host(): Promise<string[]>;
  /** Each running guest's id, and what tells its process from another. */
  processes(): Promise<Map<string, string>>;
  /** Puts what is LENT where the other node has it, unless it is there. */
  lendVolumes(lending?: Lending): Promise<void>;
  /** Leaves the console log of an instance that is gone. */
  leaveConsole(id: string): Promise<void>;
  close(): Promise<void>;
}

export interface HypervisorDaemon {
  start(): Promise<void>;
  kill(): Promise<void>;
  /** Command that sends a signal to the one that runs then. */
  signalCommand(signal: 'KILL' | 'STOP'): string[];
  thaw(): void;
}
