/**
 * SimWorld: one simulated server, which outlives the agents that drive it.
 *
 * Drivers are attached to it (index.ts) and detached or killed; its guests run on, as those of a real host
 * do. With a `statePath` it is written to a file after each change and before the call that made it is
 * answered, so that a process can be killed at any moment and another one finds the host as it was. The
 * whole file is written each time: meant for tests with few guests; without a path nothing is written.
 */
import type { Clock } from '../contracts/clock.ts';
import { SIM_EPOCH_MS, SimClock } from './clock.ts';
import { Exports } from './exports.ts';
import { Faults } from './faults.ts';
import { Files } from './files.ts';
import { Guests } from './guests.ts';
import { Machine } from './machine.ts';
import { Outside } from './outside.ts';
import { DEFAULT_SETTINGS, type SimTiming, type WorldSettings } from './settings.ts';
import {
  emptyState,
  type SimBridge,
  type SimKept,
  type SimBucket,
  type SimSource,
  type SimTrace,
  type WorldState,
} from './state.ts';
import { readState, writeState } from './state-file.ts';

export interface WorldOptions extends Partial<Omit<WorldSettings, 'timing'>> {
  timing?: Partial<SimTiming>;
  /**
   * Time of the world. @default a SimClock that starts at the time the state file tells, else SIM_EPOCH_MS
   */
  clock?: Clock;
  /** File that the world is kept in, and read from where it exists. @default memory alone */
  statePath?: string;
  /** A world that has the files of the pools that both say are shared. @default none: they are this one's */
  common?: SimWorld;
}

export class SimWorld {
  readonly settings: WorldSettings;
  readonly clock: Clock;
  readonly faults = new Faults();
  readonly files: Files;
  readonly guests: Guests;
  readonly exports: Exports;
  readonly machine: Machine;
  /** What others on the host do, and what guests do by themselves. */
  readonly outside: Outside;
  /** What no agent should do to a host and a host does not prevent, in words; tests expect none. */
  readonly mishaps: string[] = [];
  /** Bytes of objects and parts that were sent to object stores, ever. */
  receivedObjectBytes = 0;
  readonly #state: WorldState;
  readonly #statePath: string | null;
  #dirty = true;

  /** Makes a world, or takes up the one in `statePath`; options that are given win over the file's. */
  constructor(options: WorldOptions = {}) {
    const { clock, statePath, common, ...given } = options;
    const saved = statePath === undefined ? null : readState(statePath);
    this.settings = settingsOf(saved?.state.settings ?? DEFAULT_SETTINGS, given);
    this.#state = { ...(saved?.state ?? emptyState(this.settings)), settings: this.settings };
    this.clock = clock ?? new SimClock({ startMs: saved?.nowMs ?? SIM_EPOCH_MS });
    this.#statePath = statePath ?? null;
    this.files = new Files(this.#state, common?.files);
    const changed = () => {
      this.touch();
      this.flush();
    };
    this.guests = new Guests(this.#state, this.files, this.clock, changed);
    this.exports = new Exports(this.#state, () => this.touch());
    this.machine = new Machine(this.settings, this.clock, changed);
    this.outside = new Outside(this, changed);
    this.flush();
  }

  /** Images that `makeImage` finds, by path or URL. */
  get sources(): Map<string, SimSource> {
    return this.#state.sources;
  }

  get bridges(): Map<string, SimBridge> {
    return this.#state.bridges;
  }

  /** Device to the bridge that it is plugged into; an empty name for none. */
  get devices(): Map<string, string> {
    return this.#state.devices;
  }

  /** Parts of networks that are there without the rest, by kind and name. */
  get traces(): Map<string, SimTrace> {
    return this.#state.traces;
  }

  /** Files that the hypervisor keeps for guests by their names, by path. */
  get kept(): Map<string, SimKept> {
    return this.#state.kept;
  }

  /** Passphrases that the hypervisor has, by the volume's id. */
  get secrets(): Map<string, string> {
    return this.#state.secrets;
  }

  /** What the object store `name` holds. */
  bucket(name: string): SimBucket {
    const known = this.#state.buckets.get(name);
    if (known !== undefined) return known;
    const made = { objects: new Map(), uploads: new Map() };
    this.#state.buckets.set(name, made);
    return made;
  }

  get callMs(): number {
    return this.settings.timing.callMs;
  }

  /** Marks that something has changed. */
  touch(): void {
    this.#dirty = true;
  }

  /** Writes all of it to a file, for a process that takes it up from there. */
  save(path: string): void {
    writeState(path, this.#state, this.clock.now());
  }

  /** Writes what has changed. */
  flush(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    if (this.#statePath !== null) writeState(this.#statePath, this.#state, this.clock.now());
  }
}

function settingsOf(
  base: WorldSettings,
  given: Omit<WorldOptions, 'clock' | 'statePath' | 'common'>,
): WorldSettings {
  // Files of older worlds lack what came later; those of before there were keys have none.
  const keys = { ...(given.keys ?? base.keys ?? {}) };
  return { ...DEFAULT_SETTINGS, ...base, ...given, keys, timing: { ...base.timing, ...given.timing } };
}
