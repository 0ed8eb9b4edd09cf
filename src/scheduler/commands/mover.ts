/**
 * The mover: brings a creation that one node or the engine has refused to the next node with room.
 *
 * Nothing of it is sent to the next node before the one before has refused it, so it is done on one node at most.
 */
import type { AgentError } from '../../model/errors.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import type { Clock } from '../clock.ts';
import { needsOf } from '../engines/amounts.ts';
import type { Claimer } from '../engines/claimer.ts';
import type { Ask, Placer } from '../placement/placer.ts';
import { mayFitElsewhere, noNodeFits, type Refusal } from '../placement/refusals.ts';
import { bringsInstance, type CommandRow } from '../store/commands.ts';
import type { Store } from '../store/store.ts';

/** Nodes tried for one instance: where five refuse, the request is likely at fault, and the caller waits. */
const TRIES_LIMIT = 5;

export interface MoverParts {
  store: Store;
  placer: Placer;
  claimer: Pick<Claimer, 'want'>;
  clock: Clock;
}

export class Mover {
  readonly #parts: MoverParts;

  constructor(parts: MoverParts) {
    this.#parts = parts;
  }

  /**
   * Has another node claimed for the command.
   *
   * @returns Null where one is being claimed; else the error that the command is to be refused with.
   * @throws {AgentError} UNAVAILABLE: the engine does not answer.
   */
  async moveOn(command: CommandRow, error: AgentError): Promise<AgentError | null> {
    if (!bringsInstance(command.method) || !mayFitElsewhere(error.code)) return error;
    if (command.pinned) return error;
    const refusals = [...command.refusals, this.#refusalBy(command.nodeId, error)];
    const ask = this.#askOf(command, refusals);
    if (refusals.length >= TRIES_LIMIT) return noNodeFits(ask.name, refusals);
    const found = await this.#parts.placer.candidates(ask);
    const ranking = this.#parts.placer.judge(ask, found);
    const next = ranking.candidates.find((id) => id !== command.origin?.nodeId);
    if (next === undefined) return this.#parts.placer.errorOf(ask, ranking);
    this.#redirect(command, ask, next);
    return null;
  }

  #askOf(command: CommandRow, refusals: readonly Refusal[]): Ask {
    const spec = command.params['spec'] as InstanceSpec;
    const placement = this.#parts.store.instances.get(command.instanceId)?.placement ?? {};
    const amounts = needsOf(spec, placement.devices);
    const pools = command.origin?.pools ?? [];
    return {
      consumer: command.instanceId,
      name: spec.name,
      amounts,
      placement,
      nodeId: null,
      pools,
      refusals,
    };
  }

  #refusalBy(nodeId: string, error: AgentError): Refusal {
    const hostname = this.#parts.store.nodes.brief(nodeId)?.hostname ?? nodeId;
    return { node: nodeId, hostname, code: error.code, reason: error.message };
  }

  #redirect(command: CommandRow, { consumer, amounts, refusals }: Ask, nodeId: string): void {
    const { store, clock, claimer } = this.#parts;
    store.db.transaction(() => {
      store.commands.redirect(command.id, { nodeId, refusals: [...refusals] });
      claimer.want({ consumer, nodeId, amounts });
      const instance = store.instances.get(consumer);
      if (instance !== null) store.instances.put({ ...instance, nodeId }, clock.now());
    });
  }
}
