/**
 * The reporter: keeps the engine told of what nodes are and have. The newest is what counts: changes that come while one
 * is on its way become one.
 *
 *   changed(node) ──▶ from the store, as it is then ──▶ engine.report ──(failed)──▶ again after a while
 */
import type { Logger } from 'pino';
import type { Clock } from '../clock.ts';
import type { NodeRow } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import { stockOf } from './amounts.ts';
import type { Engine, NodeReport } from './engine.ts';

/** Milliseconds until an engine that did not answer is told again. */
const RETRY_MS = 5_000;

export interface ReporterParts {
  engine: Engine;
  store: Store;
  clock: Clock;
  logger: Logger;
}

export class Reporter {
  readonly #parts: ReporterParts;
  readonly #running = new Map<string, 'running' | 'again'>();
  #closed = false;

  constructor(parts: ReporterParts) {
    this.#parts = parts;
  }

  /** Within a transaction that changes the node: reports it, in that transaction or after the commit. */
  note(nodeId: string): void {
    const { engine, store } = this.#parts;
    const report = engine.within === undefined ? null : this.#reportOf(nodeId);
    if (report === null) store.db.onCommit(() => this.changed(nodeId));
    else engine.within?.report(report);
  }

  /** The node is not as it was last reported. Never throws. */
  changed(nodeId: string): void {
    const isRunning = this.#running.has(nodeId);
    this.#running.set(nodeId, isRunning ? 'again' : 'running');
    if (!isRunning) void this.#reportUntilCalm(nodeId);
  }

  close(): void {
    this.#closed = true;
  }

  async #reportUntilCalm(nodeId: string): Promise<void> {
    const { engine, logger, clock } = this.#parts;
    try {
      do {
        this.#running.set(nodeId, 'running');
        const report = this.#closed ? null : this.#reportOf(nodeId);
        if (report !== null) await engine.report(report);
      } while (this.#running.get(nodeId) === 'again');
    } catch (error) {
      logger.warn({ err: error, nodeId }, 'the engine could not be told of a node; it is tried again');
      clock.after(RETRY_MS, () => this.changed(nodeId));
    } finally {
      this.#running.delete(nodeId);
    }
  }

  #reportOf(nodeId: string): NodeReport | null {
    const { store } = this.#parts;
    const node = store.nodes.get(nodeId);
    if (node === null) return null;
    return {
      nodeId,
      hostname: node.hostname,
      stock: stockOf(node.inventory),
      traits: node.inventory.traits,
      isOpen: isOpen(node),
      counted: store.claims.ofNode(nodeId, 'counted'),
      accepted: store.claims.ofNode(nodeId, 'accepted'),
    };
  }
}

function isOpen({ state, service }: NodeRow): boolean {
  return state === 'ready' && service === 'ready';
}
