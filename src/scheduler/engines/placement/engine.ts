/**
 * The placement engine: an OpenStack Placement holds inventories, traits and claims, for any number of schedulers.
 *
 *   node ─▶ resource provider      trait ─▶ trait, CUSTOM_BERTH_… where os-traits has none
 *   instance ─▶ consumer           draining, lost ─▶ COMPUTE_STATUS_DISABLED
 *
 * Placement decides and sends nothing. What the embedded engine does by a transaction, it does by generations.
 */
import { AgentError } from '../../../model/errors.ts';
import { type Amounts, misfit, shortage } from '../amounts.ts';
import type { Candidate, Claim, Engine, EngineRefusal, EngineRequest, NodeReport } from '../engine.ts';
import { Allocations } from './allocations.ts';
import { PlacementClient, type PlacementClientOptions } from './client.ts';
import { Names } from './names.ts';
import { DISABLED, Providers, pathOf } from './providers.ts';
import { Candidates, Inventories, Traits, Usages } from './schemas.ts';

/** Candidates that are asked for; the best of a thousand is as good as the best of more. */
const CANDIDATES_LIMIT = 1_000;
/** Nodes that are asked why they are none, three requests each. */
const WHY_LIMIT = 20;

export interface PlacementEngineOptions extends PlacementClientOptions {
  schedulerId: string;
}

export class PlacementEngine implements Engine {
  readonly name = 'placement';
  readonly #client: PlacementClient;
  readonly #traits: Names;
  readonly #classes: Names;
  readonly #providers: Providers;
  readonly #allocations: Allocations;

  constructor(options: PlacementEngineOptions) {
    const client = new PlacementClient(options);
    this.#client = client;
    this.#traits = new Names(client, 'traits');
    this.#classes = new Names(client, 'resource_classes');
    this.#providers = new Providers({ client, traits: this.#traits, classes: this.#classes });
    const { schedulerId } = options;
    this.#allocations = new Allocations({ client, classes: this.#classes, schedulerId });
  }

  report(node: NodeReport): Promise<void> {
    return this.#providers.report(node);
  }

  async candidates(request: EngineRequest): Promise<Candidate[]> {
    const query = await this.#queryOf(request);
    if (query === null) return [];
    const found = await this.#client.get<Candidates>(`/allocation_candidates?${query}`, Candidates);
    // A request that is spread over several providers is none that one node could keep.
    const whole = found.allocation_requests
      .map(({ allocations }) => Object.keys(allocations))
      .filter((providers) => providers.length === 1);
    return [...new Set(whole.flat())].map((nodeId) => {
      const resources = found.provider_summaries[nodeId]?.resources ?? {};
      const room = Object.entries(resources).map(([name, { capacity, used }]) => [name, capacity - used]);
      return { nodeId, room: Object.fromEntries(room) };
    });
  }

  async whyNot(request: EngineRequest, nodeIds: readonly string[]): Promise<EngineRefusal[]> {
    const asked = nodeIds.slice(0, WHY_LIMIT).map((nodeId) => this.#whyNot(request, nodeId));
    const others = nodeIds.slice(WHY_LIMIT).map((nodeId): EngineRefusal => {
      return { nodeId, code: 'CAPACITY_EXCEEDED', reason: 'Placement does not offer it' };
    });
    return [...(await Promise.all(asked)).filter((refusal) => refusal !== null), ...others];
  }

  async claim(claim: Claim): Promise<void> {
    if (!(await this.#providers.has(claim.nodeId))) {
      throw new AgentError('NOT_FOUND', `Node ${claim.nodeId} has not told what it has`);
    }
    await this.#allocations.claim(claim);
  }

  release(consumer: string): Promise<void> {
    return this.#allocations.release(consumer);
  }

  consumersOf(nodeId: string): Promise<string[]> {
    return this.#allocations.oursOn(nodeId);
  }

  /** Null where it asks for a class or trait that nobody has. */
  async #queryOf({ amounts, required, forbidden, nodeId }: EngineRequest): Promise<string | null> {
    const resources = await this.#found(this.#classes, Object.keys(amounts));
    const traits = await this.#found(this.#traits, required);
    if (resources === null || traits === null) return null;
    const unwanted = await Promise.all(forbidden.map((name) => this.#traits.find(name)));
    const not = [DISABLED, ...unwanted.filter((name) => name !== null)].map((name) => `!${name}`);
    return new URLSearchParams({
      resources: Object.values(amounts)
        .map((amount, at) => `${resources[at]}:${amount}`)
        .join(','),
      required: [...traits, ...not].join(','),
      limit: String(CANDIDATES_LIMIT),
      ...(nodeId === null ? {} : { in_tree: nodeId }),
    }).toString();
  }

  async #found(names: Names, wanted: readonly string[]): Promise<string[] | null> {
    const found = await Promise.all(wanted.map((name) => names.find(name)));
    return found.includes(null) ? null : (found as string[]);
  }

  async #whyNot(request: EngineRequest, nodeId: string): Promise<EngineRefusal | null> {
    if (!(await this.#providers.has(nodeId))) {
      return { nodeId, code: 'UNAVAILABLE', reason: 'Placement does not know it' };
    }
    const path = pathOf(nodeId);
    const [{ inventories }, { usages }, { traits }] = await Promise.all([
      this.#client.get<Inventories>(`${path}/inventories`, Inventories),
      this.#client.get<{ usages: Amounts }>(`${path}/usages`, Usages),
      this.#client.get<Traits>(`${path}/traits`, Traits),
    ]);
    if (traits.includes(DISABLED)) {
      return { nodeId, code: 'UNAVAILABLE', reason: 'it takes no new instances' };
    }
    const wrong = await this.#misfit(request, new Set(traits));
    if (wrong !== null) return { nodeId, code: 'UNSUPPORTED', reason: wrong };
    const room = await this.#roomOf(request, inventories, usages);
    const short = shortage(request.amounts, room);
    return short === null ? null : { nodeId, code: 'CAPACITY_EXCEEDED', reason: short };
  }

  /** In the names of the request. */
  async #misfit(request: EngineRequest, traits: ReadonlySet<string>): Promise<string | null> {
    const has = new Set<string>();
    for (const name of [...request.required, ...request.forbidden]) {
      const found = await this.#traits.find(name);
      if (found !== null && traits.has(found)) has.add(name);
    }
    return misfit(request, has);
  }

  async #roomOf(
    { amounts }: EngineRequest,
    inventories: Inventories['inventories'],
    usages: Amounts,
  ): Promise<Amounts> {
    const room: Record<string, number> = {};
    for (const name of Object.keys(amounts)) {
      const found = (await this.#classes.find(name)) ?? name;
      const record = inventories[found];
      const capacity =
        record === undefined ? 0 : Math.floor((record.total - record.reserved) * record.allocation_ratio);
      room[name] = capacity - (usages[found] ?? 0);
    }
    return room;
  }
}
