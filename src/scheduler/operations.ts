/**
 * Operations for callers: from what nodes told, or from the node itself where nothing is stored.
 */
import { AgentError } from '../model/errors.ts';
import { hasEnded } from '../model/operation.ts';
import type { Links } from './gateway/link-table.ts';
import { ask } from './nodes/ask.ts';
import { type Mirror, operationTopic } from './nodes/mirror.ts';
import type { OperationRow } from './store/operations.ts';
import type { Store } from './store/store.ts';
import type { Waiters } from './waiters.ts';

export interface OperationsParts {
  store: Store;
  mirror: Mirror;
  links: Links;
  waiters: Waiters;
}

export class Operations {
  readonly #parts: OperationsParts;

  constructor(parts: OperationsParts) {
    this.#parts = parts;
  }

  /**
   * The operation as it is known; with `waitMs`, once it has ended or the time has passed.
   *
   * @param of.nodeId Node that has it; null to look among what is stored only.
   * @throws {AgentError} NOT_FOUND, or as `ask` does.
   */
  async get(of: { nodeId: string | null; id: string }, waitMs: number): Promise<OperationRow> {
    const row = this.#stored(of) ?? (await this.#askNode(of));
    if (hasEnded(row.operation.state)) return row;
    const ended = await this.#parts.waiters.until(operationTopic(of.id), waitMs, () => {
      const now = this.#stored(of);
      return now !== null && hasEnded(now.operation.state) ? now : null;
    });
    return ended ?? this.#stored(of) ?? row;
  }

  #stored({ nodeId, id }: { nodeId: string | null; id: string }): OperationRow | null {
    const { store } = this.#parts;
    return nodeId === null ? store.operations.withId(id) : store.operations.get(nodeId, id);
  }

  async #askNode({ nodeId, id }: { nodeId: string | null; id: string }): Promise<OperationRow> {
    const { store, mirror, links } = this.#parts;
    if (nodeId === null) {
      throw new AgentError('NOT_FOUND', `No operation ${id} is known here`, {
        hint: 'Name its node too, so that the node is asked: /v1/operations/{node}/{id}.',
      });
    }
    const { operation } = await ask(links, nodeId, 'operation.get', { id });
    return { nodeId, operation: store.db.transaction(() => mirror.applyOperation(nodeId, operation)) };
  }
}
