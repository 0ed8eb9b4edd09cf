/**
 * Filters and weights: of the nodes that the engine offers, which may have the instance, best first. Pure.
 *
 * The engine knows rooms and traits; here is what only the scheduler knows: links, states of nodes, groups. What only the
 * node knows (images, networks, its own latest claims) the node itself refuses.
 */
import type { Amounts } from '../engines/amounts.ts';
import type { Refusal } from './refusals.ts';
import type { GroupPolicy, Policy } from './request.ts';

export interface Contender {
  nodeId: string;
  hostname: string;
  /** What is left there, by the engine. */
  room: Amounts;
  /** Why the node takes nothing now; null where it does. */
  unavailable: string | null;
  /** It has so many commands unanswered that no more is sent. */
  isStuck: boolean;
  /** Instances of the group that are there. */
  members: number;
}

export interface Wish {
  policy: Policy;
  /** `isEmpty`: it has no instance yet, on any node. */
  group: { name: string; policy: GroupPolicy; isEmpty: boolean } | null;
}

export interface Ranking {
  /** Ids of the nodes that may have it, best first. */
  candidates: string[];
  refusals: Refusal[];
}

export function rank(contenders: readonly Contender[], wish: Wish): Ranking {
  const judged = contenders.map((contender) => ({ contender, refusal: judge(contender, wish) }));
  return {
    candidates: judged
      .filter(({ refusal }) => refusal === null)
      .map(({ contender }) => contender)
      .sort(byWeight(wish))
      .map(({ nodeId }) => nodeId),
    refusals: judged.map(({ refusal }) => refusal).filter((refusal) => refusal !== null),
  };
}

function judge(contender: Contender, { group }: Wish): Refusal | null {
  const by = { node: contender.nodeId, hostname: contender.hostname };
  if (contender.unavailable !== null) return { ...by, code: 'UNAVAILABLE', reason: contender.unavailable };
  if (contender.isStuck)
    return { ...by, code: 'LIMIT_REACHED', reason: 'it has too many commands unanswered' };
  if (group?.policy === 'anti-affinity' && contender.members > 0) {
    return { ...by, code: 'CAPACITY_EXCEEDED', reason: `it has an instance of group ${group.name}` };
  }
  if (group?.policy === 'affinity' && !group.isEmpty && contender.members === 0) {
    return { ...by, code: 'CAPACITY_EXCEEDED', reason: `group ${group.name} is on another node` };
  }
  return null;
}

/** The group's wish first, then memory, then VCPUs; the id makes the order the same each time. */
function byWeight({ policy, group }: Wish): (a: Contender, b: Contender) => number {
  const sign = policy === 'spread' ? 1 : -1;
  const room = ({ room }: Contender, name: string): number => room[name] ?? 0;
  return (a, b) =>
    membersFirst(group?.policy, a, b) ||
    sign * (room(b, 'MEMORY_MB') - room(a, 'MEMORY_MB')) ||
    sign * (room(b, 'VCPU') - room(a, 'VCPU')) ||
    (a.nodeId < b.nodeId ? -1 : 1);
}

function membersFirst(policy: GroupPolicy | undefined, a: Contender, b: Contender): number {
  if (policy === 'soft-affinity') return b.members - a.members;
  return policy === 'soft-anti-affinity' ? a.members - b.members : 0;
}
