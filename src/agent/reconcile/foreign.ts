/**
 * The guests of this host that are not ours, as they were seen last. In memory alone: nothing depends on them but
 * what people are shown, and what is left of the host for ours.
 */
import type { ObservedGuest } from '../../drivers/contracts/hypervisor.ts';
import type { PowerState } from '../../model/instance.ts';
import type { ForeignGuest } from '../../model/node.ts';

/** Foreign guests that are kept and listed: more than any host runs. Those beyond it are counted only. */
export const FOREIGN_LIMIT = 10_000;
/** Longest name and reason that is shown, characters; others have chosen them. */
const TEXT_LIMIT = 255;

export class ForeignGuests {
  #guests = new Map<string, ForeignGuest>();
  /** Of the last look at all, those beyond the limit. */
  #beyond = 0;

  get count(): number {
    return this.#guests.size + this.#beyond;
  }

  /** By name. */
  list(): ForeignGuest[] {
    return [...this.#guests.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Null for one that is not known. */
  powerOf(id: string): PowerState | null {
    return this.#guests.get(id)?.power.state ?? null;
  }

  /** What a look at all guests has found. */
  replace(guests: readonly ObservedGuest[]): void {
    this.#guests = new Map(guests.slice(0, FOREIGN_LIMIT).map((guest) => [guest.id, viewOf(guest)]));
    this.#beyond = Math.max(0, guests.length - FOREIGN_LIMIT);
  }

  /** What a look at one guest has found. */
  see(guest: ObservedGuest): void {
    if (this.#guests.has(guest.id) || this.#guests.size < FOREIGN_LIMIT)
      this.#guests.set(guest.id, viewOf(guest));
  }

  setPower(id: string, power: { power: PowerState; reason: string }): void {
    const known = this.#guests.get(id);
    if (known !== undefined) this.#guests.set(id, { ...known, power: powerOf(power) });
  }

  /** The host can't be asked: what is known of them is kept, and their power is not known. */
  lose(reason: string): void {
    for (const id of this.#guests.keys()) this.setPower(id, { power: 'unknown', reason });
  }

  forget(id: string): void {
    this.#guests.delete(id);
  }
}

function viewOf({ id, name, power, reason, vcpus, memoryMib }: ObservedGuest): ForeignGuest {
  return { id, name: name.slice(0, TEXT_LIMIT), power: powerOf({ power, reason }), vcpus, memoryMib };
}

function powerOf({ power, reason }: { power: PowerState; reason: string }): ForeignGuest['power'] {
  return { state: power, reason: reason.slice(0, TEXT_LIMIT) };
}
