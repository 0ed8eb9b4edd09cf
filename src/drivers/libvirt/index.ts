/**
 * The hypervisor driver on libvirt: what the composition root needs of it.
 */
import type { Clock } from '../contracts/clock.ts';
import type { Hypervisor } from '../contracts/hypervisor.ts';
import type { Keys } from '../contracts/keys.ts';
import type { Exec } from '../host/exec.ts';
import { FileKeys } from '../host/file-keys.ts';
import { LibvirtHypervisor } from './hypervisor.ts';
import type { DriverLog } from './listeners.ts';

export type { DriverLog } from './listeners.ts';

export interface LibvirtOptions {
  /** @default 'qemu:///system' */
  uri?: string;
  /** The daemon's socket. @default the URI's usual one, under /run/libvirt */
  socketPath?: string;
  /** Where the daemon keeps the pid files of guests. @default '/run/libvirt/qemu' */
  runFolder?: string;
  /** The program that serves read-only shares, absolute path. @default where an installation has it */
  readOnlyProgram?: string;
  /** Within which changes of definitions are noticed that libvirt sends no event for, milliseconds. @default 25_000 */
  sweepRoundMs?: number;
  /** What encrypted volumes are encrypted with. @default there are no keys */
  keys?: Keys;
  clock: Clock;
  exec: Exec;
  /** @default says nothing */
  log?: DriverLog;
}

/**
 * Makes the driver and begins to connect.
 *
 * It does not wait: `health()` and `onHealth` tell when libvirt is there, and calls made until the first attempt has
 * ended wait for it. After that, calls without a connection are UNAVAILABLE at once, while it goes on trying.
 */
export function createLibvirtHypervisor(options: LibvirtOptions): Hypervisor {
  const hypervisor = new LibvirtHypervisor({
    uri: options.uri ?? 'qemu:///system',
    ...(options.socketPath === undefined ? {} : { socketPath: options.socketPath }),
    ...(options.runFolder === undefined ? {} : { runFolder: options.runFolder }),
    readOnlyProgram: options.readOnlyProgram,
    sweepRoundMs: options.sweepRoundMs,
    keys: options.keys ?? new FileKeys(new Map()),
    clock: options.clock,
    exec: options.exec,
    log: options.log ?? (() => undefined),
  });
  hypervisor.connect();
  return hypervisor;
}
