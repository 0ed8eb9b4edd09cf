/**
 * Placement, the embedded engine: which nodes an instance may go to, best first, and why not the others.
 *
 * Pure. It spreads: the node with the most free memory comes first. It never names a node beyond its room,
 * which is what the node says is available less what is claimed here and not yet in the node's count.
 * What only the node knows (images, networks, its own latest claims) the node itself refuses.
 */
import type { InstanceSpec } from '../../model/instance.ts';
import { RESOURCE_CLASSES, type ResourceAmounts } from '../../model/node.ts';
import { memoryClaimMib } from '../../model/overhead.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Refusal } from './refusals.ts';

/** GiB counted for a disk whose size is its image's: the least it can be; the node counts what it is. */
const UNSIZED_DISK_GIB = 1;

export interface PlacementNode {
  id: string;
  hostname: string;
  /** Why the node takes nothing now; null where it does. */
  unavailable: string | null;
  /** What the node says is available. */
  available: ResourceAmounts;
  /** What is claimed here and not yet counted by the node. */
  claimed: ResourceAmounts;
}

export interface Ranking {
  /** Ids of the nodes with room, best first. */
  candidates: string[];
  refusals: Refusal[];
}

export function rankNodes(needs: ResourceAmounts, nodes: readonly PlacementNode[]): Ranking {
  const judged = nodes.map((node) => ({ node, refusal: judge(needs, node) }));
  return {
    candidates: judged
      .filter(({ refusal }) => refusal === null)
      .map(({ node }) => node)
      .sort(byRoom)
      .map((node) => node.id),
    refusals: judged.map(({ refusal }) => refusal).filter((refusal) => refusal !== null),
  };
}

/** What an instance takes of a node. */
export function needsOf(spec: InstanceSpec): ResourceAmounts {
  const diskGib = spec.disks
    // Disks in other pools take none of the default one's room, which DISK_GB is; the node itself counts them.
    .filter((disk) => disk.volume === undefined && (disk.pool ?? DEFAULT_POOL) === DEFAULT_POOL)
    .reduce((sum, disk) => sum + (disk.sizeGib ?? UNSIZED_DISK_GIB), 0);
  return { VCPU: spec.vcpus, MEMORY_MB: memoryClaimMib(spec), DISK_GB: diskGib };
}

export function roomOf(node: Pick<PlacementNode, 'available' | 'claimed'>): ResourceAmounts {
  const left = (name: keyof ResourceAmounts): number =>
    Math.max(0, node.available[name] - node.claimed[name]);
  return { VCPU: left('VCPU'), MEMORY_MB: left('MEMORY_MB'), DISK_GB: left('DISK_GB') };
}

function judge(needs: ResourceAmounts, node: PlacementNode): Refusal | null {
  const by = { node: node.id, hostname: node.hostname };
  if (node.unavailable !== null) return { ...by, code: 'UNAVAILABLE', reason: node.unavailable };
  const room = roomOf(node);
  const short = RESOURCE_CLASSES.filter((name) => needs[name] > room[name]);
  if (short.length === 0) return null;
  const reason = short.map((name) => `${name}: ${needs[name]} needed, ${room[name]} left`).join('; ');
  return { ...by, code: 'CAPACITY_EXCEEDED', reason };
}

/** Most free memory first, then most free VCPUs; the id makes the order the same each time. */
function byRoom(a: PlacementNode, b: PlacementNode): number {
  const [roomA, roomB] = [roomOf(a), roomOf(b)];
  return roomB.MEMORY_MB - roomA.MEMORY_MB || roomB.VCPU - roomA.VCPU || (a.id < b.id ? -1 : 1);
}
