/**
 * The claimer: has the engine do what the claims in the store say, whatever dies in between.
 *
 *   wanted ──engine.claim──▶ held ─▶ onHeld          releasing ──engine.release──▶ (row deleted)
 *      └── no room ─▶ onRefused
 *
 * What an engine does not answer is asked again until it does; each call may be repeated. Of one consumer there is one call
 * at a time, so that a release never overtakes the claim before it.
 */
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../clock.ts';
import type { ClaimRow } from '../store/claims.ts';
import type { Store } from '../store/store.ts';
import type { Claim, Engine } from './engine.ts';

/** Milliseconds until an engine that did not answer is asked again. */
const RETRY_MS = 5_000;
/** Releases under way at a time: what is given up is in no hurry. */
const RELEASES_AT_ONCE = 4;

export interface ClaimerParts {
  engine: Engine;
  store: Store;
  clock: Clock;
  logger: Logger;
  /** The room is claimed: the command may be sent. */
  onHeld(consumer: string, nodeId: string): void;
  /** There is no room on that node any more. */
  onRefused(consumer: string, nodeId: string, error: AgentError): void;
  /** The node's claims are fewer. */
  onReleased(nodeId: string): void;
}

export class Claimer {
  readonly #parts: ClaimerParts;
  readonly #busy = new Map<string, Promise<void>>();
  readonly #releasing = new Set<string>();
  #closed = false;

  constructor(parts: ClaimerParts) {
    this.#parts = parts;
  }

  /** Goes on with what the last run has left. */
  async resume(): Promise<void> {
    const { store } = this.#parts;
    for (const { consumer } of store.claims.inState('wanted')) this.claim(consumer);
    this.#flush();
    await this.#reconcile();
  }

  /** Within a transaction: writes down what is wanted, and has the engine claim it, then or after the commit. */
  want(claim: Claim): void {
    const { engine, store, onHeld } = this.#parts;
    const { consumer, nodeId } = claim;
    store.claims.want(claim);
    if (engine.within?.claim(claim) === true) {
      store.claims.move(consumer, { from: ['wanted'], to: 'held' });
      store.db.onCommit(() => onHeld(consumer, nodeId));
    } else {
      store.db.onCommit(() => this.claim(consumer));
    }
  }

  /** Asks the engine for what the consumer's row wants. Never rejects. */
  claim(consumer: string): void {
    void this.#inTurn(consumer, () => this.#claim(consumer));
  }

  /** Within a transaction: once it is committed, the engine is told that the consumer is gone. */
  releaseOnCommit(consumer: string): void {
    const { store } = this.#parts;
    store.claims.release(consumer);
    store.db.onCommit(() => this.#flush());
  }

  /** Begins nothing from now on; resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#busy.values());
  }

  async #claim(consumer: string): Promise<void> {
    const { engine, store, logger } = this.#parts;
    const wanted = store.claims.get(consumer);
    if (this.#closed || wanted?.state !== 'wanted') return;
    try {
      await engine.claim(wanted);
    } catch (thrown) {
      if (!this.#closed) this.#failed(wanted, AgentError.from(thrown));
      return;
    }
    if (this.#closed) return;
    try {
      store.db.transaction(() => store.claims.move(consumer, { from: ['wanted'], to: 'held' }));
      this.#parts.onHeld(consumer, wanted.nodeId);
    } catch (error) {
      logger.error({ err: error, consumer }, 'claim could not be stored');
      this.#again(() => this.claim(consumer));
    }
  }

  #failed({ consumer, nodeId }: ClaimRow, error: AgentError): void {
    const { logger, onRefused } = this.#parts;
    logger.info({ err: error, consumer, nodeId }, 'claim failed');
    if (error.code === 'CAPACITY_EXCEEDED' || error.code === 'NOT_FOUND') onRefused(consumer, nodeId, error);
    else this.#again(() => this.claim(consumer));
  }

  /** Starts as many releases as may be under way. */
  #flush(): void {
    for (const row of this.#parts.store.claims.inState('releasing')) {
      if (this.#closed || this.#releasing.size >= RELEASES_AT_ONCE) return;
      if (this.#releasing.has(row.consumer)) continue;
      this.#releasing.add(row.consumer);
      void this.#inTurn(row.consumer, () => this.#release(row));
    }
  }

  async #release({ consumer, nodeId }: ClaimRow): Promise<void> {
    const { engine, store, logger, onReleased } = this.#parts;
    try {
      if (store.claims.get(consumer)?.state === 'releasing') await engine.release(consumer);
      this.#releasing.delete(consumer);
      if (this.#closed) return;
      store.db.transaction(() => store.claims.delete(consumer));
      onReleased(nodeId);
      this.#flush();
    } catch (error) {
      this.#releasing.delete(consumer);
      logger.warn({ err: error, consumer }, 'release failed; it is tried again');
      this.#again(() => this.#flush());
    }
  }

  /** Claims of the engine without an instance go, and claims that it has lost are made again. */
  async #reconcile(): Promise<void> {
    const { engine, store, logger } = this.#parts;
    try {
      for (const { id } of store.nodes.briefs()) {
        if (this.#closed) return;
        await this.#reconcileNode(id, new Set(await engine.consumersOf(id)));
      }
    } catch (error) {
      logger.warn({ err: error }, 'claims could not be compared with the engine; it is tried again');
      this.#again(() => void this.#reconcile());
    }
  }

  async #reconcileNode(nodeId: string, had: ReadonlySet<string>): Promise<void> {
    const { engine, store, logger } = this.#parts;
    for (const consumer of had) {
      if (store.claims.get(consumer) !== null || store.instances.get(consumer) !== null) continue;
      logger.warn({ consumer, nodeId }, 'a claim without an instance is released');
      await engine.release(consumer);
    }
    const kept = (['held', 'accepted', 'counted'] as const).flatMap((state) =>
      store.claims.ofNode(nodeId, state),
    );
    for (const claim of kept.filter(({ consumer }) => !had.has(consumer))) {
      logger.warn({ consumer: claim.consumer, nodeId }, 'the engine has lost a claim; it is made again');
      await engine
        .claim(claim)
        .catch((error) => logger.error({ err: error, consumer: claim.consumer }, 'it could not be made'));
    }
  }

  #again(body: () => void): void {
    this.#parts.clock.after(RETRY_MS, () => {
      if (!this.#closed) body();
    });
  }

  /** After what is under way for the consumer; at once, in this very turn, where nothing is. */
  #inTurn(consumer: string, body: () => Promise<void>): Promise<void> {
    const before = this.#busy.get(consumer);
    const turn = (before === undefined ? body() : before.then(body)).finally(() => {
      if (this.#busy.get(consumer) === turn) this.#busy.delete(consumer);
    });
    this.#busy.set(consumer, turn);
    return turn;
  }
}
