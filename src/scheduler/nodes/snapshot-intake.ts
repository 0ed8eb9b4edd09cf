/**
 * A snapshot of a node on its way into the mirror, part by part: each is stored as it comes, and forgotten.
 *
 * What the node has and did not tell by the end is not there any more. Of objects that are not mirrored here nothing is taken.
 */
import { AgentError } from '../../model/errors.ts';
import type { Snapshot } from '../../model/link.ts';
import { HELLO_INSTANCES_LIMIT } from '../../model/wire.ts';
import type { Store } from '../store/store.ts';
import type { Mirror } from './mirror.ts';

export class SnapshotIntake {
  readonly #store: Store;
  readonly #mirror: Mirror;
  readonly #nodeId: string;
  readonly #listed = new Set<string>();
  #expected: readonly string[] = [];
  #next = 0;

  constructor(store: Store, mirror: Mirror, nodeId: string) {
    this.#store = store;
    this.#mirror = mirror;
    this.#nodeId = nodeId;
  }

  /**
   * @returns Whether it was the last part: all up to its `seq` is stored then.
   * @throws {AgentError} INVALID_ARGUMENT: out of order, or more instances than any node has.
   */
  add({ part, seq, last, kind, objects }: Snapshot): boolean {
    if (part === 0) this.#begin();
    if (part !== this.#next)
      throw new AgentError('INVALID_ARGUMENT', `Part ${this.#next} of the snapshot is missing`);
    this.#next++;
    this.#store.db.transaction(() => {
      for (const object of objects) this.#note(this.#mirror.applyObject(this.#nodeId, kind, object));
      if (last) this.#end(seq);
    });
    return last;
  }

  #begin(): void {
    this.#next = 0;
    this.#listed.clear();
    this.#expected = this.#mirror.expected(this.#nodeId);
  }

  #note(instanceId: string | null): void {
    if (instanceId === null) return;
    this.#listed.add(instanceId);
    if (this.#listed.size <= HELLO_INSTANCES_LIMIT) return;
    throw new AgentError('INVALID_ARGUMENT', `The snapshot has more than ${HELLO_INSTANCES_LIMIT} instances`);
  }

  #end(seq: number): void {
    this.#mirror.applyAbsence(this.#nodeId, this.#listed, this.#expected);
    this.#store.nodes.setLastSeq(this.#nodeId, seq);
  }
}
