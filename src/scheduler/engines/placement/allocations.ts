/**
 * Allocations: claims as Placement has them, one consumer for each instance.
 *
 * Ours are those that bear our project and this scheduler's id as user: no other is ever released, whatever it is on.
 */
import { AgentError } from '../../../model/errors.ts';
import type { Claim } from '../engine.ts';
import { fitting, MINOR_CONSUMER_TYPE, type PlacementClient, unexpected } from './client.ts';
import type { Names } from './names.ts';
import { pathOf } from './providers.ts';
import { ConsumerAllocations, ProviderAllocations } from './schemas.ts';

const PROJECT = 'berth';
const CONSUMER_TYPE = 'INSTANCE';
/** Tries of one claim: others claim on the same node meanwhile. */
const TRIES_LIMIT = 20;
const CONCURRENT_UPDATE = 'placement.concurrent_update';

export interface AllocationParts {
  client: PlacementClient;
  classes: Names;
  /** This scheduler, for good. */
  schedulerId: string;
}

export class Allocations {
  readonly #parts: AllocationParts;

  constructor(parts: AllocationParts) {
    this.#parts = parts;
  }

  /** @throws {AgentError} CAPACITY_EXCEEDED. HOST_CONFLICT: the consumer is another's. UNAVAILABLE */
  async claim(claim: Claim): Promise<void> {
    const resources = await this.#resourcesOf(claim);
    let generation: number | null = null;
    for (let tries = 1; ; tries++) {
      const answer = await this.#put(claim, resources, generation);
      if (answer.status === 204) return;
      if (answer.status === 409 && answer.code !== CONCURRENT_UPDATE) {
        throw new AgentError('CAPACITY_EXCEEDED', `No room on node ${claim.nodeId}: ${answer.detail}`);
      }
      if (answer.code !== CONCURRENT_UPDATE || tries === TRIES_LIMIT) {
        throw unexpected('PUT', allocationPath(claim.consumer), answer);
      }
      // Another claim on the node was first, or the consumer is there already: then this is its next generation.
      const there = await this.#get(claim.consumer);
      this.#assertOurs(claim.consumer, there);
      generation = there.consumer_generation ?? null;
    }
  }

  /** @throws {AgentError} HOST_CONFLICT: the consumer is another's. UNAVAILABLE */
  async release(consumer: string): Promise<void> {
    const there = await this.#get(consumer);
    if (Object.keys(there.allocations).length === 0) return;
    this.#assertOurs(consumer, there);
    const answer = await this.#parts.client.request('DELETE', allocationPath(consumer));
    if (answer.status !== 204 && answer.status !== 404)
      throw unexpected('DELETE', allocationPath(consumer), answer);
  }

  /** Consumers on the node that are ours. @throws {AgentError} UNAVAILABLE */
  async oursOn(nodeId: string): Promise<string[]> {
    const path = `${pathOf(nodeId)}/allocations`;
    const answer = await this.#parts.client.request('GET', path);
    if (answer.status === 404) return [];
    if (answer.status !== 200) throw unexpected('GET', path, answer);
    const { allocations } = fitting<{ allocations: object }>(answer.body, ProviderAllocations, path);
    const consumers = Object.keys(allocations);
    const owners = await Promise.all(consumers.map((consumer) => this.#get(consumer)));
    return consumers.filter((_, at) => this.#isOurs(owners[at]!));
  }

  async #resourcesOf({ amounts, nodeId }: Claim): Promise<Record<string, number>> {
    const resources: Record<string, number> = {};
    for (const [name, amount] of Object.entries(amounts)) {
      const found = await this.#parts.classes.find(name);
      if (found === null) throw new AgentError('CAPACITY_EXCEEDED', `No room on node ${nodeId}: no ${name}`);
      resources[found] = amount;
    }
    return resources;
  }

  async #put({ consumer, nodeId }: Claim, resources: object, generation: number | null) {
    const { client, schedulerId } = this.#parts;
    return client.request('PUT', allocationPath(consumer), {
      allocations: { [nodeId]: { resources } },
      project_id: PROJECT,
      user_id: schedulerId,
      consumer_generation: generation,
      ...((await client.minor()) >= MINOR_CONSUMER_TYPE ? { consumer_type: CONSUMER_TYPE } : {}),
    });
  }

  #get(consumer: string): Promise<ConsumerAllocations> {
    return this.#parts.client.get<ConsumerAllocations>(allocationPath(consumer), ConsumerAllocations);
  }

  #isOurs({ project_id, user_id }: ConsumerAllocations): boolean {
    return project_id === PROJECT && user_id === this.#parts.schedulerId;
  }

  #assertOurs(consumer: string, there: ConsumerAllocations): void {
    if (Object.keys(there.allocations).length === 0 || this.#isOurs(there)) return;
    throw new AgentError('HOST_CONFLICT', `Placement has another's allocation of consumer ${consumer}`);
  }
}

function allocationPath(consumer: string): string {
  return `/allocations/${encodeURIComponent(consumer)}`;
}
