/**
 * How the inventory is told to a scheduler: whole once, then as what has changed against what it has acknowledged.
 *
 * Theory of operation
 *   told ──(hello accepted, ack)──▶ held: the next one is a patch of it, in a heartbeat or in the hello of the next link
 *   While something told is not acknowledged nothing more is told: what changes meanwhile is told at once, later.
 *   A scheduler that holds another revision, or acknowledges none for ACK_BEATS, is told the whole.
 *   One without the feature `deltas` is told the whole whenever it has changed.
 *
 * It outlives the sessions of its link, so that a link that comes back goes on where it was.
 */
import { diffJson, PATCH_LIMIT } from '../../model/json-patch.ts';
import type { Inventory } from '../../model/node.ts';
import type { Heartbeat } from '../../model/wire.ts';
import type { Inventories } from '../inventory/inventories.ts';

/** Heartbeats for which an acknowledgement is waited for. */
const ACK_BEATS = 3;

type Told = Pick<Heartbeat, 'inventory' | 'revision' | 'delta'>;

interface State {
  revision: string;
  inventory: Inventory;
}

/** `plain` is how a scheduler of version 1.0 is spoken to. */
export type Introduction = 'plain' | 'whole' | 'resumed';

export class InventoryFeed {
  readonly #inventories: Pick<Inventories, 'get'>;
  readonly #tag: string;
  #usesDeltas = false;
  #held: State | null = null;
  #told: State | null = null;
  #beats = 0;

  /** @param tag A word that no other feed has: revisions of an agent that was restarted are others. */
  constructor(inventories: Pick<Inventories, 'get'>, tag: string) {
    this.#inventories = inventories;
    this.#tag = tag;
  }

  /** Whether a scheduler has acknowledged something that a hello can go on from. */
  get isResumable(): boolean {
    return this.#usesDeltas && this.#held !== null;
  }

  /** Whether there is what the scheduler was not told, and a heartbeat would tell it. */
  get isNews(): boolean {
    return this.#told === null && this.#held?.revision !== this.#now().revision;
  }

  /** For a hello. @throws {AgentError} UNAVAILABLE: nothing was measured yet. */
  introduce(how: Introduction): Told {
    const now = this.#now();
    this.#told = now;
    if (how === 'plain') return { inventory: now.inventory };
    return how === 'resumed' && this.#held !== null ? against(this.#held, now) : now;
  }

  /** The hello was taken, with what it said. */
  accepted(features: { usesDeltas: boolean }): void {
    this.#usesDeltas = features.usesDeltas;
    this.#held = this.#told;
    this.#told = null;
  }

  /** The scheduler has not what it was told before. */
  forget(): void {
    this.#held = null;
    this.#told = null;
  }

  /** For a heartbeat. */
  beat(): Told {
    const now = this.#now();
    if (!this.#usesDeltas) return this.#beatPlain(now);
    if (this.#told !== null && ++this.#beats < ACK_BEATS) return {};
    if (this.#told !== null) this.forget();
    if (this.#held?.revision === now.revision) return { revision: now.revision };
    this.#told = now;
    this.#beats = 0;
    return this.#held === null ? now : against(this.#held, now);
  }

  /** @param revision What the scheduler holds now; null for nothing that it can use. */
  acknowledged(revision: string | null): void {
    if (revision === null) this.forget();
    if (this.#told === null || this.#told.revision !== revision) return;
    this.#held = this.#told;
    this.#told = null;
  }

  #beatPlain(now: State): Told {
    if (this.#held?.revision === now.revision) return {};
    this.#held = now;
    return { inventory: now.inventory };
  }

  #now(): State {
    const inventory = this.#inventories.get();
    return { revision: `${this.#tag}.${inventory.generation}`, inventory };
  }
}

function against(held: State, now: State): Told {
  const patch = diffJson(held.inventory, now.inventory);
  if (patch.length > PATCH_LIMIT) return now;
  return { revision: now.revision, delta: { base: held.revision, patch } };
}
