/**
 * The dispatcher: sends each journaled command to its node until the node answers or refuses.
 *
 *   journal ──▶ claimed ──▶ request ──▶ answer ──▶ settled (accepted | refused)
 *      ▲                       │           └─ refused, and another node has room ──▶ journal, claim there, again
 *      └───────────────────────┴─ link died, no answer in time: the same request again, with the same key
 *
 * Promises: a command settles once. It is sent to another node only after the one before has refused it, so
 * it is done on one node at most. A node that is gone keeps its commands until it is back.
 */
import type { Logger } from 'pino';
import { AgentError } from '../../model/errors.ts';
import type { Operation } from '../../model/operation.ts';
import type { Clock } from '../clock.ts';
import type { Claimer } from '../engines/claimer.ts';
import type { AgentSession } from '../gateway/agent-session.ts';
import type { Links } from '../gateway/link-table.ts';
import type { Outcome } from '../gateway/requests.ts';
import { viewOf } from '../instance-views.ts';
import { readResult } from '../nodes/ask.ts';
import type { Mirror } from '../nodes/mirror.ts';
import type { Poller } from '../nodes/poller.ts';
import { bringsInstance, type CommandRow } from '../store/commands.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { NodeBrief } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import type { Waiters } from '../waiters.ts';
import type { Mover } from './mover.ts';

/** Milliseconds a node has to journal a command; it does so before it acts, so this is generous. */
const ANSWER_DEADLINE_MS = 10_000;
/** Milliseconds between two sendings over a link that is up but does not answer. */
const REPEAT_DELAY_MS = 5_000;

export interface DispatcherParts {
  store: Store;
  mirror: Mirror;
  mover: Mover;
  claimer: Pick<Claimer, 'claim' | 'releaseOnCommit'>;
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

  /** Another has taken the room between the engine's offer and the claim. */
  claimRefused(consumer: string, error: AgentError): void {
    const command = this.#parts.store.commands.creating(consumer);
    if (command !== null && !this.#closed) void this.#takeLost(command, error);
  }

  /** Within a transaction: what was asked of the instance on a node that it has left is not done any more. */
  abandon(instanceId: string): void {
    for (const command of this.#parts.store.commands.unansweredOf(instanceId)) {
      this.#settleRefused(command, new AgentError('STALE', 'The instance is restarted on another node'));
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
    let isDealtWith = false;
    try {
      if (!this.#closed) await this.#take(command, outcome);
      isDealtWith = true;
    } catch (error) {
      logger.error({ err: error, commandId: command.id }, 'answer could not be dealt with');
    }
    this.#inFlight.delete(command.id);
    if (this.#closed) return;
    // The link has room again, or is another one by now; one that is up and does not answer is given time.
    const isSilent = outcome.kind === 'unanswered' && outcome.why === 'deadline';
    if (isSilent || !isDealtWith) this.#repeatLater(command.nodeId);
    else this.pump(command.nodeId);
    // It may be another node's by now, and have been held back there while it was still under way here.
    const next = this.#parts.store.commands.get(command.id)?.nodeId;
    if (next !== undefined && next !== command.nodeId) this.pump(next);
  }

  async #take(command: CommandRow, outcome: Outcome): Promise<void> {
    switch (outcome.kind) {
      case 'result':
        await this.#takeResult(command, outcome.result);
        break;
      case 'refused':
        await this.#takeRefusal(command, outcome.error);
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
  }

  #repeatLater(nodeId: string): void {
    this.#parts.clock.after(REPEAT_DELAY_MS, () => this.pump(nodeId));
  }

  async #takeResult(command: CommandRow, result: unknown): Promise<void> {
    let operation: Operation;
    try {
      operation = readResult(command.nodeId, command.method, result).operation;
    } catch (thrown) {
      this.#refuse(command, AgentError.from(thrown));
      return;
    }
    const { store, poller } = this.#parts;
    await store.round.write(() => this.#accept(command, operation));
    if (bringsInstance(command.method)) poller.refreshInventory(command.nodeId);
  }

  #accept(command: CommandRow, told: Operation): void {
    const { store, mirror, waiters, clock } = this.#parts;
    // The instance first, so that the mirror finds the creation of an operation that has failed already.
    if (bringsInstance(command.method)) this.#acceptInstance(command, told.id);
    const operation = mirror.applyOperation(command.nodeId, told);
    const answer = { body: { instance: this.#instanceView(command.instanceId), operation } };
    const outcome = { state: 'accepted' as const, operationId: told.id, answer };
    store.commands.settle(command.id, outcome, clock.now());
    store.db.onCommit(() => waiters.notify(commandTopic(command.id)));
  }

  #acceptInstance(command: CommandRow, operationId: string): void {
    const { store, clock } = this.#parts;
    store.claims.move(command.instanceId, { from: ['wanted', 'held'], to: 'accepted' });
    const instance = store.instances.get(command.instanceId);
    if (instance === null) return;
    const phase = instance.phase === 'dispatching' ? 'accepted' : instance.phase;
    store.instances.put({ ...instance, phase, operationId }, clock.now());
  }

  #instanceView(id: string): unknown {
    const { store } = this.#parts;
    const instance = store.instances.get(id);
    return instance === null ? null : viewOf(instance, store.nodes.brief(instance.nodeId) as NodeBrief);
  }

  async #takeRefusal(command: CommandRow, error: AgentError): Promise<void> {
    const { logger, mover } = this.#parts;
    logger.info({ commandId: command.id, nodeId: command.nodeId, err: error }, 'node refused a command');
    const refusal = await mover.moveOn(command, error);
    if (refusal !== null && !this.#closed) this.#refuse(command, refusal);
  }

  async #takeLost(command: CommandRow, error: AgentError): Promise<void> {
    const { mover, logger, clock, claimer } = this.#parts;
    try {
      const refusal = await mover.moveOn(command, error);
      if (refusal !== null && !this.#closed) this.#refuse(command, refusal);
    } catch (thrown) {
      logger.error({ err: thrown, commandId: command.id }, 'no other node could be looked for');
      clock.after(REPEAT_DELAY_MS, () => claimer.claim(command.instanceId));
    }
  }

  #refuse(command: CommandRow, error: AgentError): void {
    this.#parts.store.db.transaction(() => this.#settleRefused(command, error));
  }

  #settleRefused(command: CommandRow, error: AgentError): void {
    const { store, waiters, clock, claimer } = this.#parts;
    const body = error.toBody();
    const outcome = { state: 'refused' as const, operationId: null, answer: { error: body } };
    store.commands.settle(command.id, outcome, clock.now());
    store.db.onCommit(() => waiters.notify(commandTopic(command.id)));
    if (!bringsInstance(command.method)) return;
    claimer.releaseOnCommit(command.instanceId);
    const instance = store.instances.get(command.instanceId);
    if (instance?.phase === 'dispatching') {
      store.instances.put(refused(instance, command, body), clock.now());
    }
  }
}

/** One that was to be restarted elsewhere stays with its old node; one that was never made has failed. */
function refused(instance: InstanceRow, { origin }: CommandRow, error: InstanceRow['error']): InstanceRow {
  if (origin === null) return { ...instance, phase: 'failed', error };
  return { ...instance, phase: 'present', nodeId: origin.nodeId, error };
}
