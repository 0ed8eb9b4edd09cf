/**
 * Capacity: what is left of each resource class, and whether a claim fits. Pure.
 *
 * The arithmetic is Placement's: a claim fits while used + claimed ≤ (total − reserved) × allocationRatio.
 */
import { AgentError } from './errors.ts';
import {
  RESOURCE_CLASSES,
  type ResourceAmounts,
  type ResourceClass,
  type ResourceInventory,
} from './node.ts';

export interface ClassCapacity {
  total: number;
  reserved: number;
  allocationRatio: number;
}
export type Capacities = Record<ResourceClass, ClassCapacity>;

/** GiB by the name of the pool. */
export type PoolClaims = Readonly<Record<string, number>>;

/** What is taken of a node. */
export interface Claim {
  VCPU?: number;
  MEMORY_MB?: number;
  /** @default none */
  disks?: PoolClaims;
}

/** Sums by pool. */
export function claimsOf(parts: Iterable<{ pool: string; gib: number }>): PoolClaims {
  const claims: Record<string, number> = {};
  for (const { pool, gib } of parts) claims[pool] = (claims[pool] ?? 0) + gib;
  return claims;
}

export function inventoryOf(capacity: ClassCapacity, used: number): ResourceInventory {
  return { ...capacity, used, available: Math.max(0, grantable(capacity) - used) };
}

/**
 * @param where Who has the room, for the message.
 * @throws {AgentError} CAPACITY_EXCEEDED, naming every class that is short.
 */
export function assertFits(
  capacities: Capacities,
  used: ResourceAmounts,
  claim: Partial<ResourceAmounts>,
  where = 'This node',
): void {
  const short = RESOURCE_CLASSES.filter(
    (name) => used[name] + (claim[name] ?? 0) > grantable(capacities[name]) && (claim[name] ?? 0) > 0,
  );
  if (short.length === 0) return;
  const words = short.map(
    (name) => `${claim[name]} ${name} asked, ${inventoryOf(capacities[name], used[name]).available} left`,
  );
  throw new AgentError('CAPACITY_EXCEEDED', `${where} has no room for it: ${words.join('; ')}`, {
    hint: 'Ask for less, or delete what is no longer needed.',
    details: { short },
  });
}

/** How much of it may be claimed in all. */
export function grantable({ total, reserved, allocationRatio }: ClassCapacity): number {
  return Math.floor(Math.max(0, total - reserved) * allocationRatio);
}
