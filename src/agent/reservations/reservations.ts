/**
 * Reservations: room that is kept free for a while, and given to the instance that is created with it.
 *
 *   reserve ─▶ held ──create──▶ consumed ──created──▶ gone
 *               │ ▲                 └──undone──▶ held again, if its time is not over and its room is still there
 *               └─┴── released, or its time is over ──▶ gone
 *
 * They touch nothing on the host: each step is one transaction, with the allocations and the event in it, so there is
 * nothing that a crash could leave half done, and nothing to journal beyond the row itself. They are with the database
 * alone: where that is lost, so are they, and the room is free.
 */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { type Claim, claimsOf } from '../../model/capacity.ts';
import { AgentError } from '../../model/errors.ts';
import type { Params } from '../../model/methods.ts';
import { type Reservation, RESERVATIONS_MAX, type ReservedResources } from '../../model/reservation.ts';
import type { Inventories } from '../inventory/inventories.ts';
import type { Log } from '../log.ts';
import { takeEpoch } from '../operations/epoch.ts';
import type { ReservationRow } from '../store/reservations.ts';
import type { Store } from '../store/store.ts';
import { LeaseClock } from './lease-clock.ts';

/** Longest pause between two looks at the leases, ms: until then a clock that was set is not written down. */
const LOOK_MS = 30_000;

type EndReason = 'released' | 'expired' | 'consumed' | 'no-room';

export interface ReservationParts {
  store: Store;
  inventories: Inventories;
  clock: Clock;
  log: Log;
}

export class Reservations {
  readonly #parts: ReservationParts;
  readonly #store: Store;
  readonly #leases: LeaseClock;
  #cancelTimer: () => void = () => undefined;
  #closed = false;

  constructor(parts: ReservationParts) {
    this.#parts = parts;
    this.#store = parts.store;
    this.#leases = new LeaseClock(parts.clock);
  }

  /** Goes on with those that a daemon of before has kept. */
  start(): void {
    for (const row of this.#store.reservations.list()) this.#leases.begin(row);
    this.#look();
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
  }

  list(): Reservation[] {
    return this.#store.reservations.list().map((row) => this.#view(row));
  }

  /** @param record Called within the transaction. @throws {AgentError} CAPACITY_EXCEEDED, ALREADY_EXISTS, STALE … */
  create(params: Params<'reservation.create'>, record: () => void): Reservation {
    const { id = randomUUID(), resources, seconds, note = '', epoch } = params;
    const known = this.#held(id);
    if (known !== null) return this.#repeated(known, { resources, lifetimeMs: seconds * 1000, note });
    const claim = claimOf(resources);
    const { clock, inventories } = this.#parts;
    const lifetimeMs = seconds * 1000;
    const expiresAtMs = Math.round(clock.now()) + lifetimeMs;
    const expiresAt = new Date(expiresAtMs).toISOString();
    const row = {
      id,
      resources,
      note,
      lifetimeMs,
      createdAt: timestamp(clock),
      expiresAtMs,
      instanceId: null,
    };
    this.#store.db.transaction(() => {
      takeEpoch(this.#store.meta, epoch);
      this.#forgetExpired(id);
      this.#assertFew();
      inventories.assertRoom(claim);
      this.#store.reservations.insert(row);
      this.#store.allocations.add(consumerOf(id), claim);
      this.#store.events.append('reservation.created', null, { id, resources, note, expiresAt });
      record();
    });
    this.#leases.begin(row);
    this.#look();
    return this.#view(row);
  }

  /** @returns Whether there was one. */
  release({ id, epoch }: Params<'reservation.release'>, record: () => void): boolean {
    return this.#store.db.transaction(() => {
      takeEpoch(this.#store.meta, epoch);
      record();
      const row = this.#store.reservations.find(id);
      if (row !== null) this.#end(row, 'released');
      return row !== null;
    });
  }

  /**
   * Frees the room of a reservation for the instance that is admitted in the same transaction.
   *
   * @throws {AgentError} NOT_FOUND: there is none, or its time is over. ILLEGAL_STATE: another instance is made from it.
   */
  consume(id: string, instanceId: string): void {
    this.#store.db.assertTransaction();
    const row = this.#held(id);
    if (row === null) {
      throw new AgentError('NOT_FOUND', `There is no reservation ${id} on this node, or its time is over`, {
        hint: 'Reserve anew, or create the instance without one.',
      });
    }
    if (row.instanceId !== null)
      throw new AgentError(
        'ILLEGAL_STATE',
        `Instance ${row.instanceId} is being made from reservation ${id}`,
      );
    this.#store.allocations.remove(consumerOf(id));
    this.#store.reservations.setInstance(id, instanceId);
  }

  /** The instance that was made from one is there; within the transaction that says so. */
  consumed(instanceId: string): void {
    const row = this.#store.reservations.findByInstance(instanceId);
    if (row !== null) this.#end(row, 'consumed');
  }

  /** The instance came to nothing, and its own room is free again; within the transaction that says so. */
  giveBack(instanceId: string): void {
    const row = this.#store.reservations.findByInstance(instanceId);
    if (row === null) return;
    const claim = claimOf(row.resources);
    if (this.#leases.leftMs(row.id) === 0) this.#end(row, 'expired');
    else if (!this.#parts.inventories.hasRoom(claim)) this.#end(row, 'no-room');
    else {
      this.#store.reservations.setInstance(row.id, null);
      this.#store.allocations.add(consumerOf(row.id), claim);
      this.#lookIn(1);
    }
  }

  /** Null for one whose time is over, though nobody has looked since. */
  #held(id: string): ReservationRow | null {
    const row = this.#store.reservations.find(id);
    return row === null || this.#isOver(row) ? null : row;
  }

  /** What an instance is made from lasts until that has ended. */
  #isOver({ id, instanceId }: ReservationRow): boolean {
    return instanceId === null && this.#leases.leftMs(id) === 0;
  }

  #repeated(
    row: ReservationRow,
    asked: Pick<ReservationRow, 'resources' | 'lifetimeMs' | 'note'>,
  ): Reservation {
    const { resources, lifetimeMs, note } = row;
    if (isDeepStrictEqual({ resources, lifetimeMs, note }, asked)) return this.#view(row);
    throw new AgentError('ALREADY_EXISTS', `There is another reservation ${row.id} on this node`, {
      hint: 'Use a fresh id for each new reservation.',
    });
  }

  #forgetExpired(id: string): void {
    const row = this.#store.reservations.find(id);
    if (row !== null) this.#end(row, 'expired');
  }

  #assertFew(): void {
    if (this.#store.reservations.count() < RESERVATIONS_MAX) return;
    throw new AgentError('LIMIT_REACHED', `There are ${RESERVATIONS_MAX} reservations on this node already`, {
      hint: 'Release what is not needed: berth reservation list.',
    });
  }

  /** Within a transaction. */
  #end({ id }: ReservationRow, reason: EndReason): void {
    this.#store.allocations.remove(consumerOf(id));
    this.#store.reservations.remove(id);
    this.#store.events.append('reservation.ended', null, { id, reason });
  }

  /** Ends those whose time is over, and writes down what a clock that was set has changed; then waits for the next. */
  #look(): void {
    this.#cancelTimer();
    if (this.#closed) return;
    try {
      const rows = this.#store.reservations.list();
      const over = rows.filter((row) => this.#isOver(row));
      const moved = rows.filter(
        (row) => !over.includes(row) && this.#leases.expiryOf(row) !== row.expiresAtMs,
      );
      if (over.length + moved.length > 0) this.#write(over, moved);
      this.#leases.retain(new Set(rows.filter((row) => !over.includes(row)).map(({ id }) => id)));
    } catch (error) {
      this.#parts.log.warn({ error }, 'reservations whose time is over are ended later');
    }
    this.#lookLater();
  }

  #write(over: readonly ReservationRow[], moved: readonly ReservationRow[]): void {
    this.#store.db.transaction(() => {
      for (const row of over) this.#end(row, 'expired');
      for (const row of moved) this.#store.reservations.setExpiry(row.id, this.#leases.expiryOf(row));
    });
  }

  /** Not at all where there is none. */
  #lookLater(): void {
    const held = this.#store.reservations.list().filter(({ instanceId }) => instanceId === null);
    if (held.length === 0) return;
    const nextMs = Math.min(LOOK_MS, ...held.map(({ id }) => this.#leases.leftMs(id)));
    this.#lookIn(Math.max(1, Math.ceil(nextMs)));
  }

  #lookIn(delayMs: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => this.#look());
  }

  #view(row: ReservationRow): Reservation {
    const { id, resources, note, createdAt, instanceId } = row;
    const expiresAt = new Date(this.#leases.expiryOf(row)).toISOString();
    return { id, resources, note, createdAt, expiresAt, instanceId };
  }
}

/** Apart from the ids of instances and volumes, which callers may choose, too. */
function consumerOf(id: string): string {
  return `reservation-${id}`;
}

/** @throws {AgentError} INVALID_ARGUMENT: of nothing, or of one pool twice. */
function claimOf({ VCPU, MEMORY_MB, DISK_GB = [] }: ReservedResources): Claim {
  const pools = new Set(DISK_GB.map(({ pool }) => pool));
  if (pools.size < DISK_GB.length)
    throw new AgentError('INVALID_ARGUMENT', 'A reservation names each pool once');
  if (VCPU === undefined && MEMORY_MB === undefined && DISK_GB.length === 0) {
    throw new AgentError('INVALID_ARGUMENT', 'A reservation of nothing keeps nothing free', {
      hint: 'Say VCPU, MEMORY_MB or DISK_GB.',
    });
  }
  return {
    ...(VCPU !== undefined && { VCPU }),
    ...(MEMORY_MB !== undefined && { MEMORY_MB }),
    disks: claimsOf(DISK_GB),
  };
}
