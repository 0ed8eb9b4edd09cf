/**
 * Amounts by resource class: what nodes have, what instances take, and what is left. Pure.
 *
 * The names are those of os-resource-classes; what it has none for begins with CUSTOM_BERTH_.
 */
import type { InstanceSpec } from '../../model/instance.ts';
import type { Inventory } from '../../model/node.ts';
import { memoryClaimMib } from '../../model/overhead.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';

export type Amounts = Readonly<Record<string, number>>;

/** What a node has of one class. */
export interface Stock {
  total: number;
  reserved: number;
  allocationRatio: number;
  used: number;
}

/** GiB counted for a disk whose size is its image's: the least it can be; the node counts what it is. */
const UNSIZED_DISK_GIB = 1;

/** The class of the room of a pool: DISK_GB is the default one's, as in the node's inventory. */
export function poolClass(pool: string): string {
  if (pool === DEFAULT_POOL) return 'DISK_GB';
  return `CUSTOM_BERTH_POOL_${pool.toUpperCase().replaceAll('-', '_')}_GB`;
}

/** All that the node counts, pools that were measured included. */
export function stockOf(inventory: Inventory): Record<string, Stock> {
  const pools = inventory.pools.flatMap(({ name, disk }) =>
    disk === null || name === DEFAULT_POOL ? [] : [[poolClass(name), disk] as const],
  );
  const all = [...Object.entries(inventory.resources), ...pools];
  return Object.fromEntries(
    all.map(([name, { total, reserved, allocationRatio, used }]) => [
      name,
      { total, reserved, allocationRatio, used },
    ]),
  );
}

/** What an instance takes of a node, and what was asked for beside it. */
export function needsOf(spec: InstanceSpec, devices: Amounts = {}): Amounts {
  const needs: Record<string, number> = { VCPU: spec.vcpus, MEMORY_MB: memoryClaimMib(spec) };
  for (const disk of spec.disks) {
    if (disk.volume !== undefined) continue; // it takes its room already
    const name = poolClass(disk.pool ?? DEFAULT_POOL);
    needs[name] = (needs[name] ?? 0) + (disk.sizeGib ?? UNSIZED_DISK_GIB);
  }
  for (const [name, amount] of Object.entries(devices)) needs[name] = (needs[name] ?? 0) + amount;
  return Object.fromEntries(Object.entries(needs).filter(([, amount]) => amount > 0));
}

/** What may be given of a class, whoever has how much of it now. */
export function capacityOf({ total, reserved, allocationRatio }: Stock): number {
  return Math.max(0, Math.floor((total - reserved) * allocationRatio));
}

/** What is free by the node's own count. May be below 0 where it has less than it gave. */
export function freeOf(stock: Stock): number {
  return capacityOf(stock) - stock.used;
}

export function sumOf(all: readonly Amounts[]): Amounts {
  const sum: Record<string, number> = {};
  for (const amounts of all) {
    for (const [name, amount] of Object.entries(amounts)) sum[name] = (sum[name] ?? 0) + amount;
  }
  return sum;
}

export function minus(from: Amounts, what: Amounts): Amounts {
  return sumOf([from, Object.fromEntries(Object.entries(what).map(([name, amount]) => [name, -amount]))]);
}

/** What of the needs there is not enough room for, in words; null where all fits. */
export function shortage(needs: Amounts, room: Amounts): string | null {
  const short = Object.entries(needs).filter(([name, amount]) => amount > (room[name] ?? 0));
  if (short.length === 0) return null;
  return short
    .map(([name, amount]) => `${name}: ${amount} needed, ${Math.max(0, room[name] ?? 0)} left`)
    .join('; ');
}

/** What of the traits is missing or too much, in words; null where all is right. */
export function misfit(
  { required, forbidden }: { required: readonly string[]; forbidden: readonly string[] },
  traits: ReadonlySet<string>,
): string | null {
  const missing = required.filter((name) => !traits.has(name)).map((name) => `it lacks ${name}`);
  const unwanted = forbidden.filter((name) => traits.has(name)).map((name) => `it has ${name}`);
  const all = [...missing, ...unwanted];
  return all.length === 0 ? null : all.join('; ');
}
