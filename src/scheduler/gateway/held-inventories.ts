/**
 * The inventories that nodes have told, as they told them last, so that the next one can be told as a difference.
 *
 * Kept as text, which takes a third of the memory, over the ends of links; after a start they are those that are stored. Of
 * more nodes than the limit those that told theirs longest ago are forgotten here.
 */
import { AgentError } from '../../model/errors.ts';
import { patchJson } from '../../model/json-patch.ts';
import { Inventory } from '../../model/node.ts';
import { told } from '../../model/told.ts';
import { parse } from '../../model/validate.ts';
import type { Heartbeat } from '../../model/wire.ts';

/** Nodes; some 2 KiB each. */
const NODES_LIMIT = 20_000;

export interface HeldInventory {
  /** The node's word for it. */
  revision: string;
  text: string;
}

type Told = Pick<Heartbeat, 'inventory' | 'revision' | 'delta'>;

export class HeldInventories {
  readonly #byNode = new Map<string, HeldInventory>();
  readonly #stored: (nodeId: string) => HeldInventory | null;

  /** @param stored What is known of a node from before. */
  constructor(stored: (nodeId: string) => HeldInventory | null) {
    this.#stored = stored;
  }

  /** What is held of a node; null for nothing. */
  revision(nodeId: string): string | null {
    return this.#of(nodeId)?.revision ?? null;
  }

  /**
   * Takes what a node has told.
   *
   * @returns The inventory it has now; null where none was told.
   * @throws {AgentError} STALE: it is told against what is not held. INVALID_ARGUMENT: it does not fit.
   */
  take(nodeId: string, { inventory, revision, delta }: Told): Inventory | null {
    const whole = delta === undefined ? inventory : this.#patched(nodeId, delta);
    if (whole === undefined) return null;
    if (revision !== undefined) this.#keep(nodeId, revision, whole);
    return whole;
  }

  #patched(nodeId: string, { base, patch }: NonNullable<Told['delta']>): Inventory {
    const held = this.#of(nodeId);
    if (held?.revision !== base) {
      throw new AgentError('STALE', `Revision ${base} of the inventory is not held here`, {
        details: { revision: held?.revision ?? null },
      });
    }
    const before: unknown = JSON.parse(held.text);
    return patch.length === 0
      ? (before as Inventory)
      : parse(told(Inventory), patchJson(before, patch), 'inventory');
  }

  #of(nodeId: string): HeldInventory | null {
    return this.#byNode.get(nodeId) ?? this.#stored(nodeId);
  }

  #keep(nodeId: string, revision: string, inventory: Inventory): void {
    this.#byNode.delete(nodeId);
    this.#byNode.set(nodeId, { revision, text: JSON.stringify(inventory) });
    const [oldest] = this.#byNode.keys();
    if (this.#byNode.size > NODES_LIMIT && oldest !== undefined) this.#byNode.delete(oldest);
  }
}
