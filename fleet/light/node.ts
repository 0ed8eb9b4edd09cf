/**
 * A light node: what its instances become by operations, told by the same events in the same order as a full agent's.
 *
 *   create ─▶ instance.created, operation.changed ─▶ (a while) ─▶ defined, running, ready ─▶ operation.changed
 *   delete ─▶ instance.changed, operation.changed ─▶ (a while) ─▶ stopped, instance.deleted ─▶ operation.changed
 *
 * There is no host behind it: every step succeeds. Keys are kept for repeats, a bounded number of them.
 */
import { type Clock, timestamp } from '../../src/drivers/contracts/clock.ts';
import { checkEpoch, checkGeneration, digestOfRequest } from '../../src/agent/operations/fence.ts';
import { assertFits } from '../../src/model/capacity.ts';
import { AgentError } from '../../src/model/errors.ts';
import type { Instance, InstanceSpec } from '../../src/model/instance.ts';
import type { Inventory } from '../../src/model/node.ts';
import type { Operation } from '../../src/model/operation.ts';
import { builtInstance, withPower } from './instance.ts';
import { CAPACITIES, lightInventory, usedBy } from './inventory.ts';
import { begunOperation, endedOperation, type LightMethod } from './operation.ts';
import type { LightStore } from './store.ts';

/** Operations that are remembered of a node; older ones are forgotten, and their keys are free. */
const OPERATIONS_KEPT = 64;

export interface LightNodeParts {
  nodeId: string;
  hostname: string;
  store: LightStore;
  clock: Clock;
  newId: () => string;
  /** Milliseconds that an operation takes. */
  workMs: () => number;
}

/** As the method table has made them. */
export interface LightParams {
  id?: string;
  spec?: InstanceSpec;
  key?: string;
  epoch?: number;
  generation?: number;
}

export class LightNode {
  readonly #parts: LightNodeParts;
  readonly #operations = new Map<string, Operation>();
  readonly #keys = new Map<string, { digest: string; operationId: string }>();
  #generation = 1;
  #stirred = 0;
  #inventory: Inventory | null = null;

  constructor(parts: LightNodeParts) {
    this.#parts = parts;
  }

  /** From memory; made anew only after a change, since each heartbeat asks for it. */
  get(): Inventory {
    const { nodeId, hostname, store } = this.#parts;
    this.#inventory ??= lightInventory({
      nodeId,
      hostname,
      generation: this.#generation,
      used: usedBy(store.byId.values()),
      offlineCpus: this.#stirred % 2 === 0 ? '' : '15',
    });
    return this.#inventory;
  }

  operations(): Operation[] {
    return [...this.#operations.values()];
  }

  /** @throws {AgentError} NOT_FOUND */
  operation(id: string): Operation {
    const found = this.#operations.get(id);
    if (found === undefined) throw new AgentError('NOT_FOUND', `No operation ${id} on this node`);
    return found;
  }

  /** @throws {AgentError} NOT_FOUND */
  instance(idOrName: string): Instance {
    const { byId } = this.#parts.store;
    const found = byId.get(idOrName) ?? [...byId.values()].find(({ name }) => name === idOrName);
    if (found === undefined) throw new AgentError('NOT_FOUND', `No instance ${idOrName} on this node`);
    return found;
  }

  /** An operator takes a CPU offline, or back: the inventory is another one. */
  stir(): void {
    const { store } = this.#parts;
    this.#stirred++;
    this.#changed();
    store.transaction(() => store.append('inventory.changed', null, {}));
  }

  /** @throws {AgentError} KEY_REUSED, STALE, NOT_FOUND, ALREADY_EXISTS, CAPACITY_EXCEEDED */
  submit(method: LightMethod, params: LightParams): Operation {
    const { store } = this.#parts;
    const digest = digestOfRequest(method, params as Record<string, unknown>);
    const repeated = this.#repeated(params.key, digest);
    if (repeated !== null) return repeated;
    checkEpoch(params.epoch, store.getNumber('epoch'));
    const operation = store.transaction(() => this.#begin(method, params));
    if (params.key !== undefined) this.#keys.set(params.key, { digest, operationId: operation.id });
    this.#parts.clock.after(this.#parts.workMs(), () => this.#end(operation));
    return operation;
  }

  #repeated(key: string | undefined, digest: string): Operation | null {
    const known = key === undefined ? undefined : this.#keys.get(key);
    if (known === undefined) return null;
    if (known.digest === digest) return this.operation(known.operationId);
    throw new AgentError('KEY_REUSED', 'The key was used for another command');
  }

  #begin(method: LightMethod, params: LightParams): Operation {
    const at = timestamp(this.#parts.clock);
    const target = method === 'instance.create' ? this.#build(params, at) : this.#turn(method, params);
    const operation = begunOperation(method, { id: this.#parts.newId(), target, at });
    this.#tellOperation(operation);
    this.#forgetOldest();
    return operation;
  }

  #build({ id = this.#parts.newId(), spec }: LightParams, at: string): Operation['target'] {
    const { store, newId } = this.#parts;
    if (spec === undefined) throw new AgentError('INVALID_ARGUMENT', 'A create needs a spec');
    const taken = [...store.byId.values()].some((other) => other.id === id || other.name === spec.name);
    if (taken) throw new AgentError('ALREADY_EXISTS', `An instance has the name ${spec.name} already`);
    const built = builtInstance(id, spec, { newId, at });
    const used = usedBy(store.byId.values());
    assertFits(CAPACITIES, used, usedBy([built]));
    this.#put(built);
    this.#tell('instance.created', built);
    return { kind: 'instance', id, name: spec.name };
  }

  #turn(method: LightMethod, { id = '', generation }: LightParams): Operation['target'] {
    const instance = this.instance(id);
    checkGeneration(generation, instance);
    const next = { ...instance, generation: instance.generation + 1 };
    if (method === 'instance.delete') this.#change({ ...next, lifecycle: 'deleting' });
    else this.#change({ ...next, desired: method === 'instance.start' ? 'running' : 'stopped' });
    return { kind: 'instance', id: instance.id, name: instance.name };
  }

  #end(operation: Operation): void {
    const { store, clock } = this.#parts;
    const at = timestamp(clock);
    const instance = store.byId.get(operation.target.id);
    store.transaction(() => {
      if (instance !== undefined) this.#work(operation.kind as LightMethod, instance, at);
      this.#tellOperation(endedOperation(operation, at));
    });
  }

  /** What the steps do, one after the other. */
  #work(method: LightMethod, instance: Instance, at: string): void {
    const running = { state: 'running', reason: 'booted', at } as const;
    const stopped = { state: 'stopped', reason: 'destroyed', at } as const;
    switch (method) {
      case 'instance.create':
        this.#change(withPower(instance, { state: 'stopped', reason: 'never started', at }));
        this.#change(withPower(instance, running));
        this.#change({ ...withPower(instance, running), lifecycle: 'ready' });
        break;
      case 'instance.start':
        this.#change(withPower(instance, running));
        break;
      case 'instance.stop':
        this.#change(withPower(instance, stopped));
        break;
      case 'instance.delete':
        if (instance.power.state !== 'stopped') this.#change(withPower(instance, stopped));
        this.#remove(instance);
        break;
      default:
        method satisfies never;
    }
  }

  #put(instance: Instance): void {
    this.#parts.store.byId.set(instance.id, instance);
    this.#changed();
  }

  #change(instance: Instance): void {
    this.#parts.store.byId.set(instance.id, instance);
    this.#tell('instance.changed', instance);
  }

  #remove({ id, name }: Instance): void {
    const { store } = this.#parts;
    store.byId.delete(id);
    this.#changed();
    store.append('instance.deleted', { kind: 'instance', id, name }, { id, wipe: false });
  }

  #tell(type: 'instance.created' | 'instance.changed', instance: Instance): void {
    const { id, name } = instance;
    this.#parts.store.append(type, { kind: 'instance', id, name }, { instance });
  }

  #tellOperation(operation: Operation): void {
    this.#operations.set(operation.id, operation);
    const target = { kind: 'operation', id: operation.id, name: operation.kind } as const;
    this.#parts.store.append('operation.changed', target, { operation });
  }

  #changed(): void {
    this.#generation++;
    this.#inventory = null;
  }

  #forgetOldest(): void {
    const [oldest] = this.#operations.keys();
    if (this.#operations.size <= OPERATIONS_KEPT || oldest === undefined) return;
    this.#operations.delete(oldest);
    for (const [key, { operationId }] of this.#keys) if (operationId === oldest) this.#keys.delete(key);
  }
}
