/**
 * The dispatcher: sends each journaled command to its node until the node answers or refuses.
 *
 *   journal ──▶ request ──▶ answer ──▶ settled (accepted | refused)
 *      ▲           │           └─ refused, and another node has room ──▶ claim there, journal, again
 *      └───────────┴─ link died, no answer in time: the same request again, with the same key
 *
 * Promises: a command settles once. It is sent to another node only after the one before has refused it, so
 * it is done on one node at most. A node that is gone keeps its commands until it is back.
 */
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import type { Operation } from '../../model/operation.ts';
import type { Clock } from '../clock.ts';
import type { AgentSession, Outcome } from '../gateway/agent-session.ts';
import type { Links } from '../gateway/link-table.ts';
import { viewOf } from '../instance-views.ts';
import { readResult } from '../nodes/ask.ts';
import type { Directory } from '../nodes/directory.ts';
import type { Mirror } from '../nodes/mirror.ts';
import type { Poller } from '../nodes/poller.ts';
import { needsOf, rankNodes } from '../placement/place.ts';
import { mayFitElsewhere, noNodeFits, type Refusal } from '../placement/refusals.ts';
import type { CommandRow } from '../store/commands.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { NodeRow } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import type { Waiters } from '../waiters.ts';

/** Milliseconds a node has to journal a command; it does so before it acts, so this is generous. */
const ANSWER_DEADLINE_MS = 10_000;
/** Milliseconds between two sendings over a link that is up but does not answer. */
const REPEAT_DELAY_MS = 5_000;
/** Nodes tried for one instance: where five refuse, the request is likely at fault, and the caller waits. */
const TRIES_LIMIT = 5;

export interface DispatcherParts {
  store: Store;
  mirror: Mirror;
  directory: Directory;
  poller: Poller;
  links: Links;
  waiters: Waiters;
  clock: Clock;
  logger: Logger;
  epoch: number;
}

export function commandTopic(id: string): string {
  return `command:${id}`;
}

export class Dispatcher {
  readonly #parts: DispatcherParts;
  readonly #inFlight = new Set<string>();
  #closed = false;

  constructor(parts: DispatcherParts) {
    this.#parts = parts;
  }

  /** Sends what the node has not answered and is not on its way, as far as the link has room. */
  pump(nodeId: string): void {
    const session = this.#parts.links.session(nodeId);
    if (session === null || this.#closed) return;
    for (const command of this.#parts.store.commands.unanswered(nodeId)) {
      if (session.room <= 0) return;
      if (!this.#inFlight.has(command.id)) void this.#send(session, command);
    }
  }

  /** Settles nothing from now on: what is in flight is sent again after the next start. */
  close(): void {
    this.#closed = true;
  }

  async #send(session: AgentSession, command: CommandRow): Promise<void> {
    const { epoch, logger } = this.#parts;
    this.#inFlight.add(command.id);
    const params = { ...command.params, key: command.id, epoch };
    const outcome = await session.request(command.method, params, { deadlineMs: ANSWER_DEADLINE_MS });
    this.#inFlight.delete(command.id);
    if (this.#closed) return;
    try {
      this.#take(command, outcome);
    } catch (error) {
      logger.error({ err: error, commandId: command.id }, 'answer could not be stored');
      this.#repeatLater(command.nodeId);
    }
  }

  #take(command: CommandRow, outcome: Outcome): void {
    switch (outcome.kind) {
      case 'result':
        this.#takeResult(command, outcome.result);
        break;
      case 'refused':
        this.#takeRefusal(command, outcome.error);
        break;
      case 'unanswered':
        this.#parts.logger.info(
          { commandId: command.id, nodeId: command.nodeId, why: outcome.why },
          'no answer',
        );
        break;
      case 'unsent':
        break;
    }
    // The link has room again, or is another one by now; one that is up and does not answer is given time.
    if (outcome.kind === 'unanswered' && outcome.why === 'deadline') this.#repeatLater(command.nodeId);
    else this.pump(command.nodeId);
  }

  #repeatLater(nodeId: string): void {
    this.#parts.clock.after(REPEAT_DELAY_MS, () => this.pump(nodeId));
  }

  #takeResult(command: CommandRow, result: unknown): void {
    let operation: Operation;
    try {
      operation = readResult(command.nodeId, command.method, result).operation;
    } catch (thrown) {
      this.#refuse(command, AgentError.from(thrown));
      return;
    }
    const { store, poller } = this.#parts;
    store.db.transaction(() => this.#accept(command, operation));
    if (command.method === 'instance.create') poller.refreshInventory(command.nodeId);
  }

  #accept(command: CommandRow, told: Operation): void {
    const { store, mirror, waiters, clock } = this.#parts;
    // Settled first, so that the mirror finds the command of an operation that has failed already.
    const outcome = { state: 'accepted' as const, operationId: told.id, answer: null };
    store.commands.settle(command.id, outcome, clock.now());
    if (command.method === 'instance.create') this.#acceptInstance(command, told.id);
    const operation = mirror.applyOperation(command.nodeId, told);
    const answer = { body: { instance: this.#instanceView(command.instanceId), operation } };
    store.commands.settle(command.id, { ...outcome, answer }, clock.now());
    store.db.onCommit(() => waiters.notify(commandTopic(command.id)));
  }

  #acceptInstance(command: CommandRow, operationId: string): void {
    const { store, clock } = this.#parts;
    store.claims.accept(command.id);
    const instance = store.instances.get(command.instanceId);
    if (instance === null) return;
    const phase = instance.phase === 'dispatching' ? 'accepted' : instance.phase;
    store.instances.put({ ...instance, phase, operationId }, clock.now());
  }

  #instanceView(id: string): unknown {
    const { store } = this.#parts;
    const instance = store.instances.get(id);
    return instance === null ? null : viewOf(instance, store.nodes.get(instance.nodeId) as NodeRow);
  }

  #takeRefusal(command: CommandRow, error: AgentError): void {
    const { logger } = this.#parts;
    logger.info({ commandId: command.id, nodeId: command.nodeId, err: error }, 'node refused a command');
    const mayMove = command.method === 'instance.create' && !command.pinned && mayFitElsewhere(error.code);
    if (mayMove) this.#moveOn(command, error);
    else this.#refuse(command, error);
  }

  #moveOn(command: CommandRow, error: AgentError): void {
    const refusals = [...command.refusals, this.#refusalBy(command.nodeId, error)];
    const next = this.#nextNode(command, refusals);
    if (typeof next === 'string') this.#redirect(command, { nodeId: next, refusals });
    else this.#refuse(command, next);
  }

  #refusalBy(nodeId: string, error: AgentError): Refusal {
    const hostname = this.#parts.store.nodes.get(nodeId)?.hostname ?? nodeId;
    return { node: nodeId, hostname, code: error.code, reason: error.message };
  }

  /** The next candidate that has not refused it; or the error where none is left. */
  #nextNode(command: CommandRow, refusals: Refusal[]): string | AgentError {
    const spec = command.params['spec'] as InstanceSpec;
    const tried = new Set(refusals.map((refusal) => refusal.node));
    const others = this.#parts.directory.forPlacement().filter((node) => !tried.has(node.id));
    const ranking = rankNodes(needsOf(spec), others);
    const next = ranking.candidates[0];
    if (next !== undefined && tried.size < TRIES_LIMIT) return next;
    return noNodeFits(spec.name, [...refusals, ...ranking.refusals]);
  }

  #redirect(command: CommandRow, change: { nodeId: string; refusals: Refusal[] }): void {
    const { store, clock } = this.#parts;
    store.db.transaction(() => {
      store.commands.redirect(command.id, change);
      store.claims.hold(command.id, change.nodeId, needsOf(command.params['spec'] as InstanceSpec));
      const instance = store.instances.get(command.instanceId);
      if (instance !== null) store.instances.put({ ...instance, nodeId: change.nodeId }, clock.now());
    });
    this.pump(change.nodeId);
  }

  #refuse(command: CommandRow, error: AgentError): void {
    const { store, waiters, clock } = this.#parts;
    const body = error.toBody();
    store.db.transaction(() => {
      const outcome = { state: 'refused' as const, operationId: null, answer: { error: body } };
      store.commands.settle(command.id, outcome, clock.now());
      if (command.method === 'instance.create') {
        store.claims.release(command.id);
        const instance = store.instances.get(command.instanceId);
        if (instance?.phase === 'dispatching') store.instances.put(failed(instance, body), clock.now());
      }
      store.db.onCommit(() => waiters.notify(commandTopic(command.id)));
    });
  }
}

function failed(instance: InstanceRow, error: InstanceRow['error']): InstanceRow {
  return { ...instance, phase: 'failed', error };
}
