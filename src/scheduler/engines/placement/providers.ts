/**
 * Resource providers: each node is one, with the node's id, and is kept as the node was last reported.
 *
 * Sent is only what differs from what was sent last, or from what is there after a start. Generations are kept, and read
 * again only when Placement says that they are behind: claims move them on, too.
 *
 * An inventory is put as what may be given: total is the capacity with its ratio, reserved what the node uses for other
 * things than our claims, and the ratio is 1, so that nothing is lost to rounding.
 */
import { AgentError } from '../../../model/errors.ts';
import { type Amounts, capacityOf, sumOf } from '../amounts.ts';
import type { NodeReport } from '../engine.ts';
import { type Answer, type PlacementClient, unexpected } from './client.ts';
import type { Names } from './names.ts';
import { Inventories, Provider, Traits, Usages } from './schemas.ts';

/** The standard trait of a node that takes no new instances. */
export const DISABLED = 'COMPUTE_STATUS_DISABLED';
/** Tries of one PUT, each after reading the generation: claims come in between. */
const TRIES_LIMIT = 8;
const CONCURRENT_UPDATE = 'placement.concurrent_update';
const IN_USE = 'placement.inventory.inuse';
/** Longest name of a provider. */
const NAME_LENGTH_MAX = 200;

type Records = Record<string, { total: number; reserved: number; allocation_ratio: number }>;

interface Known {
  generation: number;
  /** As JSON, sorted. */
  inventories: string;
  traits: string;
}

export class Providers {
  readonly #client: PlacementClient;
  readonly #traits: Names;
  readonly #classes: Names;
  readonly #known = new Map<string, Known>();

  constructor(parts: { client: PlacementClient; traits: Names; classes: Names }) {
    this.#client = parts.client;
    this.#traits = parts.traits;
    this.#classes = parts.classes;
  }

  /** Makes the provider as the report says. @throws {AgentError} UNAVAILABLE */
  async report(report: NodeReport): Promise<void> {
    try {
      await this.#report(report);
    } catch (error) {
      this.#known.delete(report.nodeId); // what is there is not known any more
      throw error;
    }
  }

  /** Whether the node was ever reported to this Placement. */
  async has(nodeId: string): Promise<boolean> {
    if (this.#known.has(nodeId)) return true;
    return (await this.#client.request('GET', pathOf(nodeId))).status === 200;
  }

  async #report(report: NodeReport): Promise<void> {
    const known = this.#known.get(report.nodeId) ?? (await this.#look(report));
    this.#known.set(report.nodeId, known);
    const traits = await this.#traitsOf(report);
    const inventories = await this.#inventoriesOf(report);
    if (known.traits !== JSON.stringify(traits)) await this.#putTraits(report.nodeId, traits);
    if (known.inventories !== textOf(inventories)) await this.#putInventories(report.nodeId, inventories);
  }

  /** What is there, made where it is not. */
  async #look(report: NodeReport): Promise<Known> {
    const { nodeId } = report;
    const answer = await this.#client.request('GET', pathOf(nodeId));
    if (answer.status === 404) return this.#create(report);
    if (answer.status !== 200) throw unexpected('GET', pathOf(nodeId), answer);
    const [inventories, traits] = await Promise.all([
      this.#client.get<Inventories>(`${pathOf(nodeId)}/inventories`, Inventories),
      this.#client.get<Traits>(`${pathOf(nodeId)}/traits`, Traits),
    ]);
    return {
      generation: inventories.resource_provider_generation,
      inventories: textOf(bare(inventories.inventories)),
      traits: JSON.stringify(traits.traits.toSorted()),
    };
  }

  async #create({ nodeId, hostname }: NodeReport): Promise<Known> {
    const name = `${hostname.slice(0, NAME_LENGTH_MAX - nodeId.length - 1)}.${nodeId}`;
    const answer = await this.#client.request('POST', '/resource_providers', { uuid: nodeId, name });
    if (answer.status !== 200 && answer.status !== 409)
      throw unexpected('POST', '/resource_providers', answer);
    // 409: another scheduler was faster.
    const generation = await this.#generation(nodeId);
    return { generation, inventories: textOf({}), traits: '[]' };
  }

  async #traitsOf({ traits, isOpen }: NodeReport): Promise<string[]> {
    const names = new Set<string>();
    for (const trait of isOpen ? traits : [...traits, DISABLED]) names.add(await this.#traits.make(trait));
    return [...names].sort();
  }

  async #inventoriesOf({ stock, counted, accepted }: NodeReport): Promise<Records> {
    const claimed = sumOf([...counted, ...accepted].map(({ amounts }) => amounts));
    const records: Records = {};
    for (const [name, each] of Object.entries(stock)) {
      const total = capacityOf(each);
      if (total === 0) continue; // Placement has none of it, then
      const others = Math.max(0, each.used - (claimed[name] ?? 0));
      const reserved = Math.min(total, others);
      records[await this.#classes.make(name)] = { total, reserved, allocation_ratio: 1 };
    }
    return records;
  }

  async #putTraits(nodeId: string, traits: readonly string[]): Promise<void> {
    await this.#put(nodeId, 'traits', () => ({ traits }));
    this.#note(nodeId, { traits: JSON.stringify(traits) });
  }

  async #putInventories(nodeId: string, inventories: Records): Promise<void> {
    const { code } = await this.#put(nodeId, 'inventories', () => ({ inventories }), [IN_USE]);
    if (code !== IN_USE) return this.#note(nodeId, { inventories: textOf(inventories) });
    // A class that the node has no more, with claims on it: it stays as full as it is until they are gone.
    const { usages } = await this.#client.get<{ usages: Amounts }>(`${pathOf(nodeId)}/usages`, Usages);
    const kept = { ...full(usages), ...inventories };
    await this.#put(nodeId, 'inventories', () => ({ inventories: kept }));
    this.#note(nodeId, { inventories: textOf(kept) });
  }

  /** @throws {AgentError} UNAVAILABLE: it was refused by another code than those of `expected`. */
  async #put(
    nodeId: string,
    what: 'traits' | 'inventories',
    bodyOf: () => object,
    expected: readonly string[] = [],
  ): Promise<Answer> {
    const path = `${pathOf(nodeId)}/${what}`;
    for (let tries = 1; ; tries++) {
      const generation = this.#known.get(nodeId)?.generation ?? 0;
      const answer = await this.#client.request('PUT', path, {
        resource_provider_generation: generation,
        ...bodyOf(),
      });
      if (answer.status === 200) {
        this.#note(nodeId, { generation: generationIn(answer, path) });
        return answer;
      }
      if (answer.code !== null && expected.includes(answer.code)) return answer;
      if (answer.code !== CONCURRENT_UPDATE || tries === TRIES_LIMIT) throw unexpected('PUT', path, answer);
      this.#note(nodeId, { generation: await this.#generation(nodeId) });
    }
  }

  async #generation(nodeId: string): Promise<number> {
    return (await this.#client.get<{ generation: number }>(pathOf(nodeId), Provider)).generation;
  }

  #note(nodeId: string, change: Partial<Known>): void {
    const known = this.#known.get(nodeId);
    if (known !== undefined) this.#known.set(nodeId, { ...known, ...change });
  }
}

export function pathOf(nodeId: string): string {
  return `/resource_providers/${encodeURIComponent(nodeId)}`;
}

function generationIn(answer: Answer, path: string): number {
  const { resource_provider_generation: generation } = (answer.body ?? {}) as Record<string, unknown>;
  if (typeof generation === 'number') return generation;
  throw new AgentError('UNAVAILABLE', `Placement's answer to PUT ${path} has no generation`);
}

/** Of each class that is used, just what is used, and none of it free. */
function full(usages: Amounts): Records {
  const used = Object.entries(usages).filter(([, amount]) => amount > 0);
  return Object.fromEntries(
    used.map(([name, amount]) => [name, { total: amount, reserved: amount, allocation_ratio: 1 }]),
  );
}

function bare(inventories: Inventories['inventories']): Records {
  return Object.fromEntries(
    Object.entries(inventories).map(([name, { total, reserved, allocation_ratio }]) => [
      name,
      { total, reserved, allocation_ratio },
    ]),
  );
}

function textOf(records: Records): string {
  return JSON.stringify(Object.entries(records).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
