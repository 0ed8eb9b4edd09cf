/**
 * Events of one link on their way to the disk: committed in batches, acknowledged after the commit.
 *
 *   event ──▶ batch ──(end of the turn, with others; or full)──▶ transaction: events, mirror, last_seq ──▶ ack
 *
 * An event that is stored already is acknowledged and otherwise ignored, so a repeat does no harm. A batch
 * that cannot be stored is not acknowledged: the link is closed, and the node sends it again. Numbers that are missing
 * are a gap, unless the node says that it has taken together what they stood for (`after`).
 */
import type { Logger } from 'pino';
import type { BerthEvent } from '../../model/event.ts';
import type { Snapshot } from '../../model/link.ts';
import type { AgentSession } from '../gateway/agent-session.ts';
import { CLOSE } from '../gateway/close-codes.ts';
import type { Store } from '../store/store.ts';
import type { Mirror } from './mirror.ts';
import { SnapshotIntake } from './snapshot-intake.ts';

/** Events in one transaction: enough to share the cost of its fsync, few enough not to hold up the rest. */
const BATCH_LIMIT = 256;

export interface EventIntakeParts {
  store: Store;
  mirror: Mirror;
  logger: Logger;
  /** Called after events were missed: the node had already dropped them. */
  onGap(nodeId: string): void;
}

export class EventIntake {
  readonly #parts: EventIntakeParts;
  readonly #session: AgentSession;
  readonly #nodeId: string;
  readonly #snapshot: SnapshotIntake;
  #batch: BerthEvent[] = [];
  /** The newest event that `write` has left stored. */
  #writtenSeq = 0;

  constructor(parts: EventIntakeParts, session: AgentSession, nodeId: string) {
    this.#parts = parts;
    this.#session = session;
    this.#nodeId = nodeId;
    this.#snapshot = new SnapshotIntake(parts.store, parts.mirror, nodeId);
  }

  add(event: BerthEvent): void {
    if (this.#batch.push(event) === 1) void this.#storeSoon();
    if (this.#batch.length >= BATCH_LIMIT) this.flush();
  }

  /** @throws {AgentError} INVALID_ARGUMENT, as SnapshotIntake does. */
  addSnapshot(snapshot: Snapshot): void {
    this.flush();
    if (this.#snapshot.add(snapshot)) this.#session.acknowledge(snapshot.seq);
  }

  /** Stores the batch by itself, where there is one. */
  flush(): void {
    if (this.#batch.length === 0) return;
    try {
      this.#parts.store.db.transaction(() => this.#write());
      this.#confirm();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** With what others write in this turn; who sends what can't be stored is alone in that. */
  async #storeSoon(): Promise<void> {
    try {
      await this.#parts.store.round.write(() => this.#write());
      this.#confirm();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Writes what is new of the batch; within a transaction, after which it is to be confirmed. */
  #write(): void {
    if (this.#batch.length === 0) return;
    const { store, mirror } = this.#parts;
    let lastSeq = store.nodes.lastSeq(this.#nodeId);
    for (const event of this.#batch) {
      if (event.seq <= lastSeq) continue;
      if ((event.after ?? event.seq - 1) > lastSeq) this.#reportGap(lastSeq, event.seq);
      store.events.add(this.#nodeId, event);
      mirror.applyEvent(this.#nodeId, event);
      lastSeq = event.seq;
    }
    store.nodes.setLastSeq(this.#nodeId, lastSeq);
    this.#writtenSeq = lastSeq;
  }

  /** The batch is on the disk. */
  #confirm(): void {
    if (this.#batch.length === 0) return;
    this.#batch = [];
    this.#session.acknowledge(this.#writtenSeq);
  }

  #fail(error: unknown): void {
    this.#batch = [];
    this.#parts.logger.error({ err: error, nodeId: this.#nodeId }, 'events could not be stored');
    this.#session.close(CLOSE.internal);
  }

  #reportGap(after: number, seq: number): void {
    this.#parts.logger.warn({ nodeId: this.#nodeId, after, seq }, 'events were missed');
    this.#parts.store.db.onCommit(() => this.#parts.onGap(this.#nodeId));
  }
}
