/**
 * The placer: asks the engine who has room, and judges its answer by what the scheduler knows at that very moment.
 *
 *   candidates (engine, takes its time) ──▶ judge (at once, from the store) ──▶ journal, in the same turn
 *
 * The two are apart so that between judging and journaling nothing can happen: two members of one anti-affinity group that
 * are asked for together can't both find the node empty.
 */
import { AgentError } from '../../model/errors.ts';
import { type Amounts, minus } from '../engines/amounts.ts';
import type { Candidate, Engine, EngineRequest } from '../engines/engine.ts';
import type { Links } from '../gateway/link-table.ts';
import { unavailability } from '../nodes/service.ts';
import type { NodeBrief } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import { type Contender, type Ranking, rank } from './rank.ts';
import { noNodeFits, type Refusal } from './refusals.ts';
import type { PlacementRequest, Policy } from './request.ts';
import { sharedPools } from './restart.ts';

/** Commands that a node may have unanswered; more are refused, for the node is stuck or gone. */
export const UNANSWERED_LIMIT = 256;

/** What is to be placed. */
export interface Ask {
  /** Id of the instance. */
  consumer: string;
  name: string;
  amounts: Amounts;
  placement: PlacementRequest;
  /** The one node that it may go to; null for any. */
  nodeId: string | null;
  /** Shared pools that the node has to have; none for what is made anew. */
  pools: readonly string[];
  /** Nodes that have refused it. */
  refusals: readonly Refusal[];
}

export interface PlacerParts {
  engine: Engine;
  store: Store;
  links: Links;
  /** Where a request names none. */
  policy: Policy;
}

export class Placer {
  readonly #parts: PlacerParts;

  constructor(parts: PlacerParts) {
    this.#parts = parts;
  }

  /** None yet of an engine that tells them in the very turn in which they are judged. @throws {AgentError} UNAVAILABLE */
  async candidates(ask: Ask): Promise<Candidate[]> {
    const { engine } = this.#parts;
    return engine.within === undefined ? engine.candidates(requestOf(ask)) : [];
  }

  /**
   * Synchronous: what it says holds until the end of the turn.
   *
   * @throws {AgentError} INVALID_ARGUMENT: the group has another policy.
   */
  judge(ask: Ask, offered: readonly Candidate[]): Ranking {
    const found = this.#parts.engine.within?.candidates(requestOf(ask)) ?? offered;
    const nodes = this.#nodes(ask);
    const members = this.#membersByNode(ask);
    const unanswered = this.#parts.store.commands.unansweredByNode();
    // What is being claimed now may be missing in what the engine has said: else all that come at once go to one node.
    const wanted = this.#parts.store.claims.wantedSums();
    const contenders = found.flatMap(({ nodeId, room }): Contender[] => {
      const node = nodes.get(nodeId);
      if (node === undefined) return []; // another scheduler's, or one that has refused
      const isStuck = (unanswered.get(nodeId) ?? 0) >= UNANSWERED_LIMIT;
      return [
        {
          nodeId,
          hostname: node.hostname,
          room: minus(room, wanted.get(nodeId) ?? {}),
          unavailable: this.#unavailability(node) ?? this.#missingPool(node, ask),
          isStuck,
          members: members.get(nodeId) ?? 0,
        },
      ];
    });
    const { policy = this.#parts.policy, group } = ask.placement;
    return rank(contenders, {
      policy,
      group: group === undefined ? null : { ...group, isEmpty: members.size === 0 },
    });
  }

  /** The error where no candidate is left: with the reason of each node. */
  async errorOf(ask: Ask, { refusals }: Ranking): Promise<AgentError> {
    const said = [...ask.refusals, ...refusals];
    const silent = new Map(this.#nodes(ask));
    for (const { node } of said) silent.delete(node);
    const local = [...silent.values()].flatMap((node) => this.#localRefusal(node));
    for (const { node } of local) silent.delete(node);
    const byEngine = await this.#parts.engine.whyNot(requestOf(ask), [...silent.keys()]);
    const others = byEngine.map(({ nodeId, code, reason }) => ({
      node: nodeId,
      hostname: silent.get(nodeId)?.hostname ?? nodeId,
      code,
      reason,
    }));
    return noNodeFits(ask.name, [...said, ...local, ...others]);
  }

  #localRefusal(node: NodeBrief): Refusal[] {
    const reason = this.#unavailability(node);
    return reason === null ? [] : [{ node: node.id, hostname: node.hostname, code: 'UNAVAILABLE', reason }];
  }

  #unavailability(node: NodeBrief): string | null {
    return unavailability(node, this.#parts.links.session(node.id) !== null);
  }

  #missingPool({ id }: NodeBrief, { pools }: Ask): string | null {
    if (pools.length === 0) return null;
    const inventory = this.#parts.store.nodes.get(id)?.inventory;
    const shared = inventory === undefined ? new Set() : sharedPools(inventory);
    const missing = pools.find((pool) => !shared.has(pool));
    return missing === undefined ? null : `it has no shared pool ${missing}`;
  }

  /** Those that may be tried, by id. */
  #nodes({ nodeId, refusals }: Ask): Map<string, NodeBrief> {
    const tried = new Set(refusals.map(({ node }) => node));
    const all = this.#parts.store.nodes.briefs();
    return new Map(
      all
        .filter(({ id }) => (nodeId === null || id === nodeId) && !tried.has(id))
        .map((node) => [node.id, node]),
    );
  }

  #membersByNode({ consumer, placement: { group } }: Ask): Map<string, number> {
    const counts = new Map<string, number>();
    if (group === undefined) return counts;
    const all = this.#parts.store.instances.ofGroup(group.name);
    for (const { nodeId, policy } of all.filter(({ id }) => id !== consumer)) {
      if (policy !== group.policy) {
        throw new AgentError('INVALID_ARGUMENT', `Group ${group.name} has the policy ${policy}`, {
          hint: 'All members of a group have one policy: ask for that, or name another group.',
        });
      }
      counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
    }
    return counts;
  }
}

function requestOf({ amounts, placement, nodeId }: Ask): EngineRequest {
  const { requiredTraits: required = [], forbiddenTraits: forbidden = [] } = placement;
  return { amounts, required, forbidden, nodeId };
}
