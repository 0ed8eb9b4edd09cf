/**
 * Commands: what callers of the HTTP API ask of instances, journaled before it is sent.
 *
 * Promises: a repeat under one idempotency key gets the first answer, and is never done twice. A request that
 * is refused before it is in the journal leaves nothing behind, and its key is free.
 */

import { digestOf } from '../../model/digest.ts';
import { AgentError } from '../../model/errors.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import type { Params } from '../../model/methods.ts';
import type { Operation } from '../../model/operation.ts';
import { type Clock, timestamp } from '../clock.ts';
import { needsOf } from '../engines/amounts.ts';
import type { Claimer } from '../engines/claimer.ts';
import type { Candidate } from '../engines/engine.ts';
import type { Links } from '../gateway/link-table.ts';
import { type InstanceView, viewOf } from '../instance-views.ts';
import type { Directory } from '../nodes/directory.ts';
import { assertFenced } from '../nodes/fence.ts';
import { assertStartable } from '../nodes/service.ts';
import { type Ask, type Placer, UNANSWERED_LIMIT } from '../placement/placer.ts';
import type { Ranking } from '../placement/rank.ts';
import type { PlacementRequest } from '../placement/request.ts';
import { planRestart, type Restart } from '../placement/restart.ts';
import type { CommandMethod, CommandRow } from '../store/commands.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { NodeBrief, NodeRow } from '../store/nodes.ts';
import type { Store } from '../store/store.ts';
import type { Waiters } from '../waiters.ts';
import { commandTopic, type Dispatcher } from './dispatcher.ts';

/** Milliseconds a caller waits for the node's answer; then it is told what is known, and the command goes on. */
const ANSWER_WAIT_MS = 15_000;
/** What is asked for. */
export interface CreateRequest {
  spec: InstanceSpec;
  placement: PlacementRequest;
  /** Id or hostname; null to have one chosen. */
  node: string | null;
  /** Idempotency key of the caller, or null. */
  key: string | null;
}

export interface ActRequest {
  method: Exclude<CommandMethod, 'instance.create' | 'instance.takeover'>;
  /** Id or name. */
  instance: string;
  params: Record<string, unknown>;
  key: string | null;
}

export interface RestartRequest {
  /** Id or name. */
  instance: string;
  node: string | null;
  key: string | null;
  by: string;
  reason: string;
}

export interface Answer {
  /** Null for an instance that is gone by now. */
  instance: InstanceView | null;
  /** Null while the node has not answered. */
  operation: Operation | null;
}

/** What an instance is placed by. */
interface Judging {
  ask: Ask;
  found: readonly Candidate[];
  digest: string;
}

export interface CommandsParts {
  store: Store;
  directory: Directory;
  dispatcher: Dispatcher;
  placer: Placer;
  claimer: Claimer;
  links: Links;
  waiters: Waiters;
  clock: Clock;
  /** Makes UUIDs, lower case. */
  newId: () => string;
}

export class Commands {
  readonly #parts: CommandsParts;

  constructor(parts: CommandsParts) {
    this.#parts = parts;
  }

  /**
   * Places an instance, or puts it on the node that is named, and has it made there.
   *
   * @throws {AgentError} KEY_REUSED, ALREADY_EXISTS (the name), NOT_FOUND (the node, or something on it),
   *   CAPACITY_EXCEEDED with each node's reason in `details.nodes`, UNAVAILABLE, LIMIT_REACHED, or what the
   *   node refused with.
   */
  async create(request: CreateRequest): Promise<Answer> {
    const { spec, node, key, placement } = request;
    const asked = Object.keys(placement).length === 0 ? {} : { placement };
    const digest = digestOf({ method: 'instance.create', spec, node, ...asked });
    const repeated = this.#repeated(key, digest);
    return this.#answer(repeated ?? (await this.#place(request, digest)));
  }

  /**
   * Has something done to an instance where it is.
   *
   * @param request.instance Id or name.
   * @param request.params Parameters of the method besides id, key and epoch.
   * @throws {AgentError} KEY_REUSED, NOT_FOUND, UNAVAILABLE (its node is not connected), LIMIT_REACHED, or
   *   what the node refused with.
   */
  async act(request: ActRequest): Promise<Answer> {
    const { method, instance, params } = request;
    const digest = digestOf({ method, instance, params });
    const command = await this.#parts.store.round.write(() => this.#enterAct(request, digest));
    return this.#answer(command);
  }

  #enterAct({ method, instance, params, key }: ActRequest, digest: string): CommandRow {
    const repeated = this.#repeated(key, digest);
    if (repeated !== null) return repeated;
    const target = this.find(instance);
    if (target.phase === 'failed') {
      throw new AgentError('NOT_FOUND', `Instance ${target.name} was never made: its creation failed`);
    }
    if (method === 'instance.start') assertStartable(this.#nodeOf(target));
    if (this.#parts.links.session(target.nodeId) === null) {
      throw new AgentError('UNAVAILABLE', `The node of instance ${target.name} is not connected`);
    }
    const command = this.#newCommand(
      { method, key },
      { digest, nodeId: target.nodeId, instanceId: target.id, params: { ...params, id: target.id } },
    );
    this.#enter(command);
    this.#parts.store.db.onCommit(() => this.#parts.dispatcher.pump(command.nodeId));
    return command;
  }

  /**
   * Has an instance of a fenced node made again on another, with the same id and the same volumes.
   *
   * @throws {AgentError} ILLEGAL_STATE: its node is not fenced. UNSUPPORTED: not all it has is on shared pools. As `create`.
   */
  async restartElsewhere(request: RestartRequest): Promise<Answer> {
    const { instance, node, key } = request;
    const digest = digestOf({ method: 'restart-elsewhere', instance, node });
    const repeated = this.#repeated(key, digest);
    return this.#answer(repeated ?? (await this.#restart(request, digest)));
  }

  async #restart(request: RestartRequest, digest: string): Promise<CommandRow> {
    const { placer, directory, store } = this.#parts;
    const { spec, pools } = this.#planRestart(request.instance);
    const target = this.find(request.instance);
    const ask: Ask = {
      consumer: target.id,
      name: target.name,
      amounts: needsOf(spec, target.placement.devices),
      placement: target.placement,
      nodeId: request.node === null ? null : directory.find(request.node).id,
      pools,
      refusals: [],
    };
    const found = await placer.candidates(ask);
    const entered = await store.round.write(() => this.#enterRestart(request, { ask, found, digest }));
    if ('id' in entered) return entered;
    throw await placer.errorOf(ask, entered);
  }

  #enterRestart(request: RestartRequest, { ask, found, digest }: Judging): CommandRow | Ranking {
    const repeated = this.#repeated(request.key, digest);
    if (repeated !== null) return repeated;
    const { spec, pools, volumes, from } = this.#planRestart(request.instance); // the node may have come back meanwhile
    const target = this.find(request.instance);
    const ranking = this.#parts.placer.judge(ask, found);
    const nodeId = ranking.candidates.find((id) => id !== target.nodeId);
    if (nodeId === undefined) return ranking;
    const command = this.#newCommand(
      { method: 'instance.takeover', key: request.key },
      {
        digest,
        nodeId,
        instanceId: target.id,
        params: { id: target.id, spec, from, volumes },
        pinned: ask.nodeId !== null,
        origin: { nodeId: target.nodeId, pools },
      },
    );
    this.#journalRestart(command, request, ask);
    return command;
  }

  #planRestart(instance: string): Restart & Pick<Params<'instance.takeover'>, 'from'> {
    const row = this.find(instance);
    const node = this.#parts.store.nodes.get(row.nodeId) as NodeRow;
    const { number: fence } = assertFenced(node);
    return { ...planRestart(row, node.inventory), from: { node: node.id, fence } };
  }

  #journalRestart(command: CommandRow, { by, reason }: RestartRequest, { consumer, amounts }: Ask): void {
    const { store, clock, claimer, dispatcher } = this.#parts;
    const { nodeId } = command;
    dispatcher.abandon(consumer);
    const row = store.instances.get(consumer) as InstanceRow;
    this.#enter(command);
    claimer.want({ consumer, nodeId, amounts });
    store.instances.put({ ...row, nodeId, phase: 'dispatching', error: null }, clock.now());
    const action = 'instance.restart-elsewhere' as const;
    const at = timestamp(clock);
    store.operatorLog.add({ at, action, nodeId: row.nodeId, instanceId: consumer, by, reason });
  }

  /** @throws {AgentError} NOT_FOUND. INVALID_ARGUMENT: several instances have this name. */
  find(idOrName: string): InstanceRow {
    const { store } = this.#parts;
    const byId = store.instances.get(idOrName);
    if (byId !== null) return byId;
    const named = store.instances.withName(idOrName);
    const [instance, ...others] = named.filter(({ phase }) => phase !== 'failed');
    const found = instance ?? named[0];
    if (found === undefined) throw new AgentError('NOT_FOUND', `No instance ${idOrName} is known here`);
    if (others.length === 0) return found;
    throw new AgentError('INVALID_ARGUMENT', `${others.length + 1} instances have the name ${idOrName}`, {
      hint: 'Name the instance by its id.',
      details: { instances: [found, ...others].map(({ id }) => id) },
    });
  }

  show(row: InstanceRow): InstanceView {
    return viewOf(row, this.#nodeOf(row));
  }

  #nodeOf({ nodeId }: InstanceRow): NodeBrief {
    return this.#parts.store.nodes.brief(nodeId) as NodeBrief;
  }

  #repeated(key: string | null, digest: string): CommandRow | null {
    const command = key === null ? null : this.#parts.store.commands.withClientKey(key);
    if (command === null || command.digest === digest) return command;
    throw new AgentError('KEY_REUSED', 'The idempotency key was used for another request');
  }

  async #place(request: CreateRequest, digest: string): Promise<CommandRow> {
    const { placer, directory, newId, store } = this.#parts;
    const { spec, node, placement } = request;
    this.#checkName(spec.name);
    const ask: Ask = {
      consumer: newId(),
      name: spec.name,
      amounts: needsOf(spec, placement.devices),
      placement,
      nodeId: node === null ? null : directory.find(node).id,
      pools: [],
      refusals: [],
    };
    const found = await placer.candidates(ask);
    const entered = await store.round.write(() => this.#enterPlaced(request, { ask, found, digest }));
    if ('id' in entered) return entered;
    throw await placer.errorOf(ask, entered);
  }

  /** The same may have been asked for meanwhile. From here to the commit nothing else gets a turn. */
  #enterPlaced(request: CreateRequest, { ask, found, digest }: Judging): CommandRow | Ranking {
    const repeated = this.#repeated(request.key, digest);
    if (repeated !== null) return repeated;
    this.#checkName(request.spec.name);
    const ranking = this.#parts.placer.judge(ask, found);
    const [best] = ranking.candidates;
    return best === undefined ? ranking : this.#enterCreate(request, ask, { nodeId: best, digest });
  }

  #enterCreate(request: CreateRequest, ask: Ask, chosen: { nodeId: string; digest: string }): CommandRow {
    const { store, clock, claimer } = this.#parts;
    const { spec, placement } = request;
    const { nodeId, digest } = chosen;
    const { consumer: id, amounts } = ask;
    const command = this.#newCommand(
      { method: 'instance.create', key: request.key },
      { digest, nodeId, instanceId: id, params: { id, spec }, pinned: ask.nodeId !== null },
    );
    this.#enter(command);
    claimer.want({ consumer: id, nodeId, amounts });
    const createdAt = timestamp(clock);
    store.instances.put(newInstance({ id, nodeId, spec, placement, createdAt }), clock.now());
    return command;
  }

  #checkName(name: string): void {
    const taken = this.#parts.store.instances.withName(name).find(({ phase }) => phase !== 'failed');
    if (taken === undefined) return;
    throw new AgentError('ALREADY_EXISTS', `An instance has the name ${name} already`, {
      details: { id: taken.id },
    });
  }

  #isStuck(nodeId: string): boolean {
    return this.#parts.store.commands.countUnanswered(nodeId) >= UNANSWERED_LIMIT;
  }

  #newCommand(
    request: { method: CommandMethod; key: string | null },
    rest: Pick<CommandRow, 'digest' | 'nodeId' | 'instanceId' | 'params'> &
      Partial<Pick<CommandRow, 'pinned' | 'origin'>>,
  ): CommandRow {
    return {
      id: this.#parts.newId(),
      clientKey: request.key,
      method: request.method,
      pinned: true,
      state: 'dispatching',
      operationId: null,
      answer: null,
      refusals: [],
      origin: null,
      ...rest,
    };
  }

  /** Within a transaction: writes it into the journal. A create is sent when its claim is held, others after the commit. */
  #enter(command: CommandRow): void {
    const { store, clock } = this.#parts;
    if (this.#isStuck(command.nodeId)) {
      throw new AgentError('LIMIT_REACHED', `The node has ${UNANSWERED_LIMIT} commands unanswered`);
    }
    store.commands.add(command, clock.now());
  }

  /** The first answer, once there is one; what is known so far, where it takes too long. */
  async #answer(command: CommandRow): Promise<Answer> {
    const { store, waiters } = this.#parts;
    const answer = await waiters.until(
      commandTopic(command.id),
      ANSWER_WAIT_MS,
      () => store.commands.get(command.id)?.answer ?? null,
    );
    if (answer === null) {
      const instance = store.instances.get(command.instanceId);
      return { instance: instance === null ? null : this.show(instance), operation: null };
    }
    if ('error' in answer) throw AgentError.fromBody(answer.error);
    return answer.body as Answer;
  }
}

function newInstance(
  of: Pick<InstanceRow, 'id' | 'nodeId' | 'spec' | 'placement' | 'createdAt'>,
): InstanceRow {
  return { ...of, name: of.spec.name, phase: 'dispatching', operationId: null, told: null, error: null };
}
