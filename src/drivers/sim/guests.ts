/**
 * How the guests of a simulated host live: the part of libvirt and QEMU, and of the systems in the guests.
 *
 * Theory of operation: a guest at rest is data and costs no timer. One that will do something by itself
 * (boot, come down) has one `pending` entry in its data and one timer for it, set again when a world is read
 * from its file.
 *
 * ```
 *   stopped ─powerOn─▶ running (booting) ──bootMs──▶ running (booted, agent connected)
 *      ▲                  ▲                             │ requestShutdown        │ requestReboot
 *      │                  └─────────── reset ◀──────────┼──────── shutdownMs ────┘
 *      └── haltMs ── stopping ◀──────── shutdownMs ─────┘
 * ```
 */
import { AgentError, assertNever } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import { type GuestEvent, pathsOf, type WatchdogAction } from '../contracts/hypervisor.ts';
import { lose } from './bitmaps.ts';
import { type Files, newFile } from './files.ts';
import { GuestFiles } from './guest-files.ts';
import { devicesOf, generationIdOf, noEdits, nvramPath } from './shape.ts';
import type { Pending, SimGuest, SimPower, WorldState } from './state.ts';
import { beginUsage, pauseUsage, resumeUsage } from './usage.ts';

/** A console keeps this much of its end, in characters: a guest that boots for ever fills no memory. */
const CONSOLE_LIMIT = 65_536;
/** As OVMF's. */
const NVRAM_BYTES = 540_672;

export class Guests {
  readonly #state: WorldState;
  readonly #files: Files;
  readonly #clock: Clock;
  readonly #listeners = new Set<(event: GuestEvent) => void>();
  /** After a change that no call has made. */
  readonly #changed: () => void;
  readonly #timers = new Map<string, () => void>();
  readonly #idsByName = new Map<string, string>();
  /** What those that run have open. */
  readonly files: GuestFiles;
  #usedMemoryMib = 0;

  constructor(state: WorldState, files: Files, clock: Clock, changed: () => void) {
    this.#state = state;
    this.#files = files;
    this.#clock = clock;
    this.#changed = changed;
    this.files = new GuestFiles(state, files, (guest) => this.tellDefinition(guest));
    for (const guest of state.guests.values()) {
      this.#idsByName.set(guest.name, guest.id);
      if (guest.live !== null) this.#take(guest.live);
      if (guest.pending !== null) this.#arm(guest, guest.pending);
    }
  }

  get(id: string): SimGuest | undefined {
    return this.#state.guests.get(id);
  }

  all(): Iterable<SimGuest> {
    return this.#state.guests.values();
  }

  byName(name: string): SimGuest | undefined {
    return this.#state.guests.get(this.#idsByName.get(name) ?? '');
  }

  /** Memory that running guests take, MiB. */
  get usedMemoryMib(): number {
    return this.#usedMemoryMib;
  }

  /** Each listener hears events in their order, after what made them is done. */
  listen(listener: (event: GuestEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  add(guest: SimGuest): void {
    this.#state.guests.set(guest.id, guest);
    this.#idsByName.set(guest.name, guest.id);
    this.update(guest);
  }

  /** Tells of a definition that was brought up to date. */
  update(guest: SimGuest): void {
    this.#tellPower(guest);
    this.tellDefinition(guest);
  }

  /** Removes the definition: one that runs goes on without it, and goes with its stop. */
  remove(guest: SimGuest): void {
    guest.persistent = false;
    guest.edits = noEdits();
    this.tellDefinition(guest);
    if (guest.live === null) this.#forget(guest);
    else this.#tellPower(guest);
  }

  rename(guest: SimGuest, name: string): void {
    this.#idsByName.delete(guest.name);
    guest.name = name;
    this.#idsByName.set(name, guest.id);
    this.update(guest);
  }

  tellDefinition({ id }: SimGuest): void {
    this.#emit({ type: 'definition', id });
  }

  /**
   * Starts the guest's process.
   *
   * @param generationId @default that of its definition
   * @throws {AgentError} CAPACITY_EXCEEDED: memory. INTERNAL, as with libvirt, which has no code for it: a
   * disk or a bridge is not there, or a tap of that name is there already.
   */
  powerOn(guest: SimGuest, generationId = generationIdOf(guest)): void {
    this.#checkRoom(guest);
    const { disks, nics, shares = [] } = guest.definition ?? { disks: [], nics: [] };
    for (const disk of disks) {
      for (const path of pathsOf(disk)) this.files.checkPath(guest, path);
      this.files.checkSecrets(guest, disk);
    }
    for (const { path } of shares) this.files.checkPath(guest, path);
    for (const nic of nics) this.#checkNic(guest, nic);
    guest.live = {
      vcpus: guest.vcpus,
      memoryMib: guest.memoryMib,
      ...devicesOf(guest),
      paths: [...disks.flatMap(pathsOf), ...shares.map(({ path }) => path)],
      sharesMemory: shares.length > 0,
      taps: nics.map(({ tapName }) => tapName),
      usage: beginUsage(this.#processOf(guest), this.#clock.now()),
      ...(generationId !== null && { generationId }),
    };
    for (const { tapName, bridge } of nics) this.#state.devices.set(tapName, bridge);
    if (guest.definition?.firmware === 'uefi') this.#makeNvram(guest.name);
    this.#take(guest.live);
    this.#become(guest, 'running', 'booted');
    this.#bootLater(guest);
  }

  /** As it comes from its maker, where there is none. */
  #makeNvram(guestName: string): void {
    if (!this.#state.kept.has(nvramPath(guestName))) this.putNvram(guestName, 'new');
  }

  putNvram(guestName: string, text: string): void {
    const path = nvramPath(guestName);
    this.#state.kept.set(path, { kind: 'nvram', path, guestName, sizeBytes: NVRAM_BYTES, text });
  }

  /** Ends the guest's process. */
  powerOff(guest: SimGuest, power: SimPower, reason: string, stoppedBy?: 'guest'): void {
    this.#disarm(guest);
    if (guest.live !== null) this.#release(guest.live);
    guest.live = null;
    this.#loseSystem(guest);
    this.#become(guest, power, reason, stoppedBy);
    if (!guest.persistent) this.#forget(guest);
  }

  /** The same without a word before: what it had to save is lost. */
  kill(guest: SimGuest, power: SimPower, reason: string): void {
    for (const path of guest.live?.paths ?? []) {
      const file = this.#files.get(path);
      if (file !== undefined) lose(file);
    }
    this.powerOff(guest, power, reason);
  }

  /** The guest's kernel panics, and tells its panic device. */
  panic(guest: SimGuest): void {
    this.#emit({ type: 'panicked', id: guest.id });
    this.powerOff(guest, 'crashed', 'its kernel panicked');
  }

  /** The guest has stopped to feed its watchdog. */
  watchdog(guest: SimGuest, action: WatchdogAction): void {
    this.#emit({ type: 'watchdog', id: guest.id, action });
    if (action === 'reset') this.reset(guest);
    else if (action === 'pause') this.pause(guest);
    else if (action === 'poweroff') this.powerOff(guest, 'crashed', 'powered off by its watchdog');
  }

  /** The machine loses its power, and boots: its guests are as they were defined, and nothing runs. */
  hostBoots(): void {
    this.#state.secrets.clear();
    for (const guest of this.all()) {
      if (guest.live !== null) this.kill(guest, 'stopped', 'not started');
      delete guest.stoppedBy;
    }
  }

  /** What a paused guest was about to do waits until it is resumed. */
  pause(guest: SimGuest): void {
    pauseUsage(guest.live, this.#clock.now());
    this.#become(guest, 'paused', 'paused by the user');
  }

  resume(guest: SimGuest): void {
    resumeUsage(guest.live, this.#clock.now());
    this.#become(guest, 'running', 'resumed');
    if (guest.pending !== null && !this.#timers.has(guest.id)) this.#arm(guest, guest.pending);
  }

  /** The guest's system, where it runs and listens, comes down. */
  askShutdown(guest: SimGuest): void {
    if (guest.booted && guest.obeys) this.#later(guest, 'shutdown', this.#state.settings.timing.shutdownMs);
  }

  askReboot(guest: SimGuest): void {
    if (guest.booted && guest.obeys) this.#later(guest, 'reboot', this.#state.settings.timing.shutdownMs);
  }

  reset(guest: SimGuest): void {
    this.#disarm(guest);
    this.#loseSystem(guest);
    this.#emit({ type: 'rebooted', id: guest.id });
    this.#bootLater(guest);
  }

  /** Connects or disconnects the guest agent of a booted guest. */
  setAgent(guest: SimGuest, answers: boolean): void {
    const changes = guest.booted && guest.agentAnswers !== answers;
    guest.agentAnswers = answers;
    if (changes) this.#emit({ type: 'agent', id: guest.id, connected: answers });
  }

  /** What tells its process from all others. */
  #processOf(guest: SimGuest): string {
    guest.starts = (guest.starts ?? 0) + 1;
    return [this.#state.settings.bootId, guest.id, guest.starts, this.#clock.now()].join('/');
  }

  #forget(guest: SimGuest): void {
    this.#state.guests.delete(guest.id);
    this.#idsByName.delete(guest.name);
    this.#emit({ type: 'power', id: guest.id, guest: null });
  }

  #bootLater(guest: SimGuest): void {
    this.#later(guest, 'boot', this.#state.settings.timing.bootMs);
  }

  #later(guest: SimGuest, what: Pending['what'], delayMs: number): void {
    this.#disarm(guest);
    if (delayMs === 0) {
      this.#happen(guest, what);
      return;
    }
    guest.pending = { what, atMs: this.#clock.now() + delayMs };
    this.#arm(guest, guest.pending);
  }

  #arm(guest: SimGuest, pending: Pending): void {
    const cancel = this.#clock.after(Math.max(0, pending.atMs - this.#clock.now()), () => {
      this.#timers.delete(guest.id);
      if (guest.power === 'paused') return;
      guest.pending = null;
      this.#happen(guest, pending.what);
      this.#changed();
    });
    this.#timers.set(guest.id, cancel);
  }

  #disarm(guest: SimGuest): void {
    this.#timers.get(guest.id)?.();
    this.#timers.delete(guest.id);
    guest.pending = null;
  }

  #happen(guest: SimGuest, what: Pending['what']): void {
    switch (what) {
      case 'boot':
        this.#comeUp(guest);
        break;
      case 'reboot':
        this.reset(guest);
        break;
      case 'shutdown':
        this.#loseSystem(guest);
        this.#become(guest, 'stopping', 'shutting down');
        this.#later(guest, 'halt', this.#state.settings.timing.haltMs);
        break;
      case 'halt':
        this.powerOff(guest, 'stopped', 'shut down by the guest', 'guest');
        break;
      default:
        assertNever(what);
    }
  }

  #comeUp(guest: SimGuest): void {
    guest.booted = true;
    guest.boots++;
    const path = guest.definition?.consoleLogPath ?? null;
    if (path !== null) this.writeConsole(guest.id, path, `${guest.name} login: boot ${guest.boots}\n`);
    if (guest.agentAnswers) this.#emit({ type: 'agent', id: guest.id, connected: true });
  }

  /** Adds to the end of a console's log. */
  writeConsole(id: string, path: string, text: string): void {
    const all = ((this.#files.get(path)?.text ?? '') + text).slice(-CONSOLE_LIMIT);
    this.#files.put(newFile({ kind: 'console', id, path, sizeBytes: Buffer.byteLength(all), text: all }));
  }

  #loseSystem(guest: SimGuest): void {
    if (guest.booted && guest.agentAnswers) this.#emit({ type: 'agent', id: guest.id, connected: false });
    guest.booted = false;
    guest.frozen = false;
  }

  #become(guest: SimGuest, power: SimPower, reason: string, stoppedBy?: 'guest'): void {
    guest.power = power;
    guest.reason = reason;
    if (stoppedBy === undefined) delete guest.stoppedBy;
    else guest.stoppedBy = stoppedBy;
    this.#tellPower(guest);
  }

  #tellPower({ id, power, reason, stoppedBy }: SimGuest): void {
    this.#emit({ type: 'power', id, guest: { power, reason, ...(stoppedBy && { stoppedBy }) } });
  }

  /** As from a real host: later than the change, and in order. */
  #emit(event: GuestEvent): void {
    for (const listener of this.#listeners) {
      queueMicrotask(() => {
        if (this.#listeners.has(listener)) listener(event);
      });
    }
  }

  #take(live: NonNullable<SimGuest['live']>): void {
    this.#usedMemoryMib += live.memoryMib;
    this.files.hold(live.paths);
  }

  #release(live: NonNullable<SimGuest['live']>): void {
    this.#usedMemoryMib -= live.memoryMib;
    for (const tap of live.taps) this.#state.devices.delete(tap);
    this.files.letGo(live.paths);
  }

  #checkRoom(guest: SimGuest): void {
    const freeMib = this.#state.settings.memoryMib - this.#usedMemoryMib;
    if (guest.memoryMib <= freeMib) return;
    const message = `Guest ${guest.id} needs ${guest.memoryMib} MiB, and ${freeMib} MiB are free`;
    throw new AgentError('CAPACITY_EXCEEDED', message);
  }

  #checkNic(guest: SimGuest, nic: { bridge: string; tapName: string }): void {
    if (!this.#state.bridges.has(nic.bridge)) {
      throw new AgentError('INTERNAL', `Guest ${guest.id} cannot start: no bridge ${nic.bridge}`);
    }
    if (this.#state.devices.has(nic.tapName)) {
      throw new AgentError('INTERNAL', `Guest ${guest.id} cannot start: ${nic.tapName} exists already`);
    }
  }
}
