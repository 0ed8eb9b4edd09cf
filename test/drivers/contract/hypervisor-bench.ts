/**
 * What the contract of Hypervisor is tested on: a driver on a host, the hands that act on that host without it, and the
 * waits for what it tells.
 */
import type { Test } from 'tap';
import type { Clock } from '../../../src/drivers/contracts/clock.ts';
import type {
  GuestDefinition,
  GuestDisk,
  GuestEvent,
  Hypervisor,
} from '../../../src/drivers/contracts/hypervisor.ts';
import type { ErrorCode } from '../../../src/model/errors.ts';

/** A thing that the bench can do, or why it cannot. */
export type Hook<F> = F | { unable: string };

/** A driver on a host, and the hands that act on that host without it. */
export interface HypervisorBench {
  hypervisor: Hypervisor;
  /** A second driver on the same host, as after a restart of the agent; the bench's teardown closes it. */
  reopen(): Promise<Hypervisor>;
  /** A definition with a fresh id and name that this host can start; its teardown removes the guest. */
  definition(): GuestDefinition;
  /** A disk of 1 MiB that no guest has, with a fresh serial. */
  spareDisk(): Promise<GuestDisk>;
  /** A file that stands on the disk's, which is not changed by this; the disk as it is with it. */
  overlayOn(disk: GuestDisk): Promise<GuestDisk>;
  /** A path for a guest's memory. */
  memoryPath(): string;
  /** A path for a guest's firmware variables. */
  nvramPath(): string;
  /** A folder of the host that no guest has, by its path. */
  spareFolder(): Promise<string>;
  /** The same of 8 MiB, on another one that holds all of its data. */
  layeredDisk(): Promise<GuestDisk>;
  /** Whether it stands on no other file. */
  isFlat(disk: GuestDisk): Promise<boolean>;
  /** Bytes that a guest sees of a disk. */
  sizeOf(disk: GuestDisk): Promise<number>;
  exists(path: string): Promise<boolean>;
  /** What is in firmware variables, as they are or as they are kept, as text of a kind. */
  variablesIn(path: string): Promise<string>;
  /** Lets a guest that is down, or its firmware, have others. */
  changeVariables(path: string): Promise<void>;
  /** Disks whose changes are kept, and what is in their files. */
  tracking: {
    /** A qcow2 disk of 1 MiB that no guest has, with a fresh serial. */
    disk(): Promise<GuestDisk>;
    /** Lets a running guest write somewhere on its disk. */
    scribble(id: string, disk: GuestDisk): Promise<void>;
    /** Lets a running guest write to it in the way that is counted. */
    use(id: string, disk: GuestDisk): Promise<void>;
    /** Bytes that a copy has, zeros included. */
    bytesIn(path: string): Promise<number>;
    /** Names of the bitmaps in the file of a disk that no guest uses. */
    bitmapsIn(path: string): Promise<string[]>;
    /** Makes the empty file of a copy, in place of one that is there. */
    prepare(path: string): Promise<void>;
    /** Ends the guest's process without a word before. */
    kill(id: string): Promise<void>;
  };
  /** Puts a running guest on the host that Berth did not define, and that has at least 1 vCPU. */
  makeForeign(): Promise<{ id: string; name: string }>;
  /** What others on the host do to a guest of ours. */
  outside: {
    pause(id: string): Promise<void>;
    stop(id: string): Promise<void>;
    undefine(id: string): Promise<void>;
  };
  /** Whether the guest has booted so far, since its last reset, that it obeys a request to shut down. */
  hasBooted: Hook<(id: string) => Promise<boolean>>;
  /** Makes calls about this running guest hang, as a stuck QEMU does; the answer thaws it. */
  freeze: Hook<(id: string) => Promise<() => Promise<void>>>;
  /** Lets the running guest's kernel tell its panic device that it panicked. */
  panic: Hook<(id: string) => Promise<void>>;
  /** Lets the watchdog of a running guest, which has one, fire. */
  fireWatchdog: Hook<(id: string) => Promise<void>>;
  /** Takes the connection to the host away; the answer gives it back. */
  cutOff: Hook<() => Promise<() => Promise<void>>>;
  /** A definition of a guest that this host has no room for. */
  oversized: Hook<() => GuestDefinition>;
  clock: Clock;
  /** Lets a little of the clock's time pass. */
  pass(): Promise<void>;
  /** Longest that anything may take here, in milliseconds of the clock: a boot, a shutdown, a reconnect. */
  patienceMs: number;
}

/** Makes one bench, on a host of its own or a shared one; registers its own clean-up with `t.teardown`. */
/** What the tests make disks and folders of, but for a plain disk. */
export type FileBench = Pick<
  HypervisorBench,
  | 'overlayOn'
  | 'memoryPath'
  | 'nvramPath'
  | 'variablesIn'
  | 'changeVariables'
  | 'spareFolder'
  | 'layeredDisk'
  | 'isFlat'
>;

export type MakeBench = (t: Test) => Promise<HypervisorBench>;

/** Of a guest that no host has. */
export const ABSENT_ID = '00000000-dead-4000-8000-000000000000';

/** A guest that runs, on a fresh bench. */
export async function started(t: Test, make: MakeBench) {
  const bench = await make(t);
  const { hypervisor } = bench;
  const definition = bench.definition();
  const { id } = definition;
  await hypervisor.define(definition);
  await hypervisor.start(id);
  return { bench, hypervisor, definition, id };
}

/** Collects the events of one guest, from now on. */
export function watch(hypervisor: Hypervisor, id: string): GuestEvent[] {
  const seen: GuestEvent[] = [];
  hypervisor.subscribe((event) => {
    if (event.type !== 'gap' && event.id === id) seen.push(event);
  });
  return seen;
}

/** The guest's powers in the order they were told, null for its end; what is told twice counts once. */
export function powers(seen: GuestEvent[]): (string | null)[] {
  const all = seen.flatMap((event) => (event.type === 'power' ? [event.guest?.power ?? null] : []));
  return all.filter((power, index) => index === 0 || power !== all[index - 1]);
}

/** The hook, or null after a skip that says why this bench is unable. */
export function able<F extends (...args: never[]) => unknown>(t: Test, hook: Hook<F>): F | null {
  if (typeof hook === 'function') return hook;
  t.pass('skipped', { skip: hook.unable });
  return null;
}

/** Waits for a condition, within the bench's patience. */
export async function until(
  t: Test,
  bench: HypervisorBench,
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = bench.clock.monotonicMs() + bench.patienceMs;
  while (!(await condition())) {
    if (bench.clock.monotonicMs() > deadline) {
      t.fail(`waited ${bench.patienceMs} ms in vain for ${what}`);
      throw new Error(`waited in vain for ${what}`);
    }
    await bench.pass();
  }
}

export async function rejectsWith(t: Test, code: ErrorCode, call: Promise<unknown>): Promise<void> {
  await t.rejects(call, { name: 'AgentError', code }, `refused with ${code}`);
}
