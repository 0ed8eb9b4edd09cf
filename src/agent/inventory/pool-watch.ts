/**
 * PoolWatch: what one pool has and how it is, measured now and then.
 *
 * Each pool is measured by itself, so that one that hangs keeps no other one from being measured. What was measured last
 * is kept while it cannot be asked. How full it is, is told once for each change, also over restarts.
 */
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import type { PoolCapacity, StoragePool } from '../../drivers/contracts/storage.ts';
import type { ClassCapacity } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import { type Health, ROOM_LEVELS, type RoomLevel } from '../../model/node.ts';
import type { PoolSettings } from '../config/pools.ts';
import type { Log } from '../log.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { MetaKey } from '../store/meta.ts';
import type { Store } from '../store/store.ts';
import { diskCapacityOf } from './capacities.ts';
import { roomLevel, usedPercent } from './pool-room.ts';

/** How often the pool is measured; room on disk is what changes behind our back. */
const REFRESH_MS = 30_000;
/** A pool that takes longer than this for one statfs hangs. */
const TIMEOUT_MS = 10_000;

export interface PoolWatchParts {
  pool: StoragePool;
  settings: PoolSettings;
  store: Store;
  clock: Clock;
  log: Log;
  /** Called when it has become smaller or larger, or when it can't be asked any more, or can again. */
  onChange(): void;
}

export class PoolWatch {
  readonly settings: PoolSettings;
  readonly #parts: PoolWatchParts;
  #capacity: PoolCapacity | null = null;
  #measuredAt: string | null = null;
  #health: Health;
  /** As it was told last. */
  #room: RoomLevel;
  #toldStanding: string | null = null;
  #cancelTimer: () => void = () => undefined;
  #closed = false;

  constructor(parts: PoolWatchParts) {
    this.#parts = parts;
    this.settings = parts.settings;
    this.#room = this.#toldRoom();
    this.#health = { state: 'unavailable', since: timestamp(parts.clock), reason: 'not measured yet' };
  }

  /** Measures it now, and again and again. Resolves after the first time, whatever came of it. */
  async start(): Promise<void> {
    await this.#measure();
    this.#measureLater();
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
  }

  get health(): Health {
    return this.#health;
  }

  get room(): RoomLevel {
    return this.#room;
  }

  /** As it was measured last; null before that. */
  get measured(): { capacity: PoolCapacity; at: string } | null {
    return this.#capacity === null || this.#measuredAt === null
      ? null
      : { capacity: this.#capacity, at: this.#measuredAt };
  }

  /** What can be given of it. @throws {AgentError} UNAVAILABLE before it was measured. */
  get disk(): ClassCapacity {
    if (this.#capacity !== null) return diskCapacityOf(this.settings, this.#capacity);
    throw new AgentError(
      'UNAVAILABLE',
      `The capacity of pool ${this.settings.name} is not known: ${this.#health.reason}`,
      { hint: 'See `berth doctor`.' },
    );
  }

  /** @throws {AgentError} CAPACITY_EXCEEDED: it is so full that no volume is made or grown. */
  assertNotCritical(): void {
    if (this.#room !== 'critical') return;
    const key = this.settings.name === DEFAULT_POOL ? 'capacity.poolCriticalPercent' : 'criticalPercent';
    throw new AgentError(
      'CAPACITY_EXCEEDED',
      `No volume is made or grown while pool ${this.settings.name} is that full: ${this.#health.reason}`,
      { hint: `Make room in it: delete volumes, or images that nothing stands on. See ${key}.` },
    );
  }

  async #measure(): Promise<void> {
    await this.#ask();
    const standing = this.#standing;
    if (standing === null || standing === this.#toldStanding || this.#closed) return;
    try {
      // The first measure is news to nobody.
      if (this.#toldStanding !== null) this.#parts.onChange();
      this.#toldStanding = standing;
    } catch (error) {
      this.#parts.log.warn({ error, pool: this.settings.name }, 'a change of the pool is told later');
    }
  }

  /** What its room stands or falls with; null before it was measured. */
  get #standing(): string | null {
    if (this.#capacity === null) return null;
    return `${this.#capacity.totalBytes} ${this.#health.state === 'unavailable'}`;
  }

  async #ask(): Promise<void> {
    const { pool, clock } = this.#parts;
    try {
      await pool.prepare({ timeoutMs: TIMEOUT_MS });
      await this.#endFences();
      this.#capacity = await pool.capacity({ timeoutMs: TIMEOUT_MS });
      this.#measuredAt = timestamp(clock);
      this.#judgeRoom(this.#capacity);
    } catch (error) {
      this.#setHealth('unavailable', AgentError.from(error).toBody().message);
    }
  }

  /** What the scheduler has said while the pool could not be asked, too. */
  async #endFences(): Promise<void> {
    const { pool, store } = this.#parts;
    if (pool.isShared) await pool.endFences(store.meta.getNumber('fences'), { timeoutMs: TIMEOUT_MS });
  }

  #measureLater(): void {
    if (this.#closed) return;
    this.#cancelTimer = this.#parts.clock.after(
      REFRESH_MS,
      () => void this.#measure().then(() => this.#measureLater()),
    );
  }

  #judgeRoom(capacity: PoolCapacity): void {
    const { warningPercent: poolWarningPercent, criticalPercent: poolCriticalPercent } = this.settings;
    const percent = usedPercent(capacity);
    const level = roomLevel(this.#room, percent, { poolWarningPercent, poolCriticalPercent });
    const reason = level === 'ok' ? 'measured' : `${percent} % of it are used, which is ${level}`;
    this.#setHealth(level === 'ok' ? 'ok' : 'degraded', reason);
    if (level !== this.#room) this.#tellRoom(level, percent);
  }

  #tellRoom(level: RoomLevel, percent: number): void {
    if (this.#closed) return;
    const { store, log } = this.#parts;
    const { name } = this.settings;
    const object = { kind: 'storage', id: null, name };
    store.db.transaction(() => {
      store.meta.set(this.#key, level);
      store.events.append('health.changed', null, { object, health: this.#health, room: level });
      store.events.append('inventory.changed', null, {});
    });
    this.#room = level;
    if (level === 'ok') log.info({ pool: name, usedPercent: percent }, 'the pool has room again');
    else log.warn({ pool: name, usedPercent: percent, level }, 'the pool fills up');
  }

  #setHealth(state: Health['state'], reason: string): void {
    const { clock, log } = this.#parts;
    const before = this.#health;
    if (state === 'unavailable' && before.reason !== reason)
      log.warn({ pool: this.settings.name, reason }, 'the pool is unavailable');
    const since = before.state === state ? before.since : timestamp(clock);
    const nextTryAt = new Date(clock.now() + REFRESH_MS).toISOString();
    this.#health = { state, since, reason, ...(state === 'ok' ? {} : { nextTryAt }) };
  }

  get #key(): MetaKey {
    const { name } = this.settings;
    return name === DEFAULT_POOL ? 'pool_room' : `pool_room:${name}`;
  }

  /** A word of another version counts as none. */
  #toldRoom(): RoomLevel {
    const told = this.#parts.store.meta.get(this.#key);
    return ROOM_LEVELS.find((level) => level === told) ?? 'ok';
  }
}
