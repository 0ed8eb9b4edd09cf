/**
 * The far side of the wire: a node that keeps its state in memory and speaks berth.v1 as an agent does.
 *
 * Its state outlives its link, as an agent's database does: keys, instances, operations, numbered events.
 * A test decides how it answers: `answer` takes a method over, `hold` makes it say nothing.
 */
import { randomUUID } from 'node:crypto';
import { WebSocket } from 'ws';
import { AgentError } from '../../../src/model/errors.ts';
import type { BerthEvent, EventType } from '../../../src/model/event.ts';
import type { Instance, InstanceSpec } from '../../../src/model/instance.ts';
import type { Inventory, ResourceAmounts } from '../../../src/model/node.ts';
import type { Operation } from '../../../src/model/operation.ts';
import { bringsInstance } from '../../../src/scheduler/store/commands.ts';
import {
  AGENT_PATH,
  type HelloResult,
  type RpcRequest,
  type RpcResponse,
  rpcErrorOf,
  SUBPROTOCOL,
} from '../../../src/model/wire.ts';
import { eventually } from './eventually.ts';
import { aNodeStatus, anInstance, anInventory, anOperation } from './samples.ts';

type Params = Record<string, unknown>;
type Handler = (params: Params) => unknown;

export interface FakeAgentOptions {
  /** http URL of the scheduler. */
  url: string;
  token: string;
  hostname?: string;
  nodeId?: string;
  total?: Partial<ResourceAmounts>;
  /** It does not answer pings, as behind a dead cable. */
  silent?: boolean;
}

export class FakeAgent {
  readonly nodeId: string;
  readonly hostname: string;
  /** Requests that it has received, in order, over all links. */
  readonly requests: { method: string; params: Params }[] = [];
  readonly instances = new Map<string, Instance>();
  readonly operations = new Map<string, Operation>();
  events: BerthEvent[] = [];
  acked = 0;
  /** Revisions of its inventory that were acknowledged, in order. */
  readonly revisions: (string | null)[] = [];
  /** The last hello's answer. */
  welcome: HelloResult | null = null;
  closeCode: number | null = null;
  closeReason = '';
  /** What arrived that was neither a request, nor an ack, nor the answer to the hello. */
  readonly replies: RpcResponse[] = [];
  url: string;
  readonly #token: string;
  readonly #total: ResourceAmounts;
  readonly #silent: boolean;
  readonly #handlers = new Map<string, Handler>();
  readonly #held = new Set<string>();
  readonly #byKey = new Map<string, Operation>();
  #highestEpoch = 0;
  #inventoryGeneration = 1;
  #socket: WebSocket | null = null;

  constructor(options: FakeAgentOptions) {
    this.url = options.url;
    this.#token = options.token;
    this.#silent = options.silent ?? false;
    this.nodeId = options.nodeId ?? randomUUID();
    this.hostname = options.hostname ?? `host-${this.nodeId.slice(0, 8)}`;
    this.#total = { VCPU: 16, MEMORY_MB: 32_768, DISK_GB: 500, ...options.total };
  }

  /** Connects and says hello; resolves with the scheduler's answer. */
  async connect(): Promise<HelloResult> {
    this.welcome = null;
    await this.open();
    this.say({ jsonrpc: '2.0', id: 'hello', method: 'hello', params: this.hello() });
    return eventually(() => this.welcome);
  }

  /** Connects without a word. */
  async open(): Promise<void> {
    const socket = new WebSocket(`${this.url.replace('http', 'ws')}${AGENT_PATH}`, SUBPROTOCOL, {
      headers: { authorization: `Bearer ${this.#token}` },
      autoPong: !this.#silent,
    });
    this.closeCode = null;
    this.#socket = socket;
    socket.on('message', (data) => this.#handleMessage(socket, data.toString()));
    await new Promise((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
    });
    socket.on('error', () => {}); // the close that follows says it all
    socket.on('close', (code, reason) => this.#handleClose(socket, code, reason.toString()));
  }

  hello(): Params {
    const lastSeq = this.events.at(-1)?.seq ?? 0;
    return { nodeId: this.nodeId, version: '0.1.0', inventory: this.inventory(), lastSeq };
  }

  inventory(): Inventory {
    const used: ResourceAmounts = { VCPU: 0, MEMORY_MB: 0, DISK_GB: 0 };
    for (const { spec } of this.instances.values()) {
      used.VCPU += spec.vcpus;
      used.MEMORY_MB += spec.memoryMib;
      used.DISK_GB += spec.disks.reduce((sum, disk) => sum + (disk.sizeGib ?? 1), 0);
    }
    const { nodeId, hostname } = this;
    return anInventory({ nodeId, hostname, generation: this.#inventoryGeneration, total: this.#total, used });
  }

  heartbeat(change: Params = {}): void {
    const lastSeq = this.events.at(-1)?.seq ?? 0;
    this.notify('heartbeat', { instances: this.instances.size, lastSeq, ...change });
  }

  notify(method: string, params: unknown): void {
    this.say({ jsonrpc: '2.0', method, params });
  }

  say(message: unknown): void {
    this.sayText(JSON.stringify(message));
  }

  sayText(text: string | Buffer): void {
    this.#socket?.send(text);
  }

  /** From now on this answers the method; what it throws is the refusal. */
  answer(method: string, handler: Handler): void {
    this.#handlers.set(method, handler);
    this.#held.delete(method);
  }

  /** From now on the method is received and not answered. What it does, it does. */
  hold(method: string): void {
    this.#held.add(method);
  }

  release(method: string): void {
    this.#held.delete(method);
  }

  received(method: string): Params[] {
    return this.requests.filter((request) => request.method === method).map(({ params }) => params);
  }

  emit(type: EventType, data: Params, target: BerthEvent['target'] = null): BerthEvent {
    const seq = (this.events.at(-1)?.seq ?? 0) + 1;
    const event: BerthEvent = { seq, type, at: new Date().toISOString(), target, data };
    this.events.push(event);
    this.#tell(event);
    return event;
  }

  /** Brings an operation on and tells of it. */
  move(id: string, change: Partial<Operation>): void {
    const operation = { ...(this.operations.get(id) as Operation), ...change };
    this.operations.set(id, operation);
    this.emit('operation.changed', { operation });
  }

  /** Ends the creation of an instance well: it is ready and runs. */
  finishCreation(operation: Operation): void {
    const made = this.instances.get(operation.target.id) as Instance;
    const instance: Instance = {
      ...made,
      generation: made.generation + 1,
      lifecycle: 'ready',
      power: { state: 'running', since: new Date().toISOString(), reason: 'booted' },
    };
    this.instances.set(instance.id, instance);
    this.emit('instance.changed', { instance });
    this.move(operation.id, { state: 'succeeded', endedAt: new Date().toISOString() });
  }

  /** It is taken back, in the order in which an agent tells it. */
  failCreation(operation: Operation, error: AgentError): void {
    this.remove(operation.target.id);
    const endedAt = new Date().toISOString();
    this.move(operation.id, { state: 'failed', endedAt, error: error.toBody() });
  }

  remove(id: string): void {
    this.instances.delete(id);
    this.#inventoryGeneration++;
    this.emit('instance.deleted', { id });
  }

  /** Tears the link as a pulled cable does. */
  async drop(): Promise<void> {
    const socket = this.#socket;
    if (socket === null || socket.readyState === WebSocket.CLOSED) return;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.terminate();
    await closed;
  }

  #handle(method: string, params: Params): unknown {
    const handler = this.#handlers.get(method);
    if (handler !== undefined) return handler(params);
    switch (method) {
      case 'inventory.get':
        return this.inventory();
      case 'instance.list':
        return { instances: [...this.instances.values()] };
      case 'node.status':
        return aNodeStatus(this.nodeId, this.hostname);
      case 'operation.get':
        return { operation: this.#operation(String(params['id'])) };
      default:
        return { operation: this.#fenced(method, params) };
    }
  }

  #operation(id: string): Operation {
    const operation = this.operations.get(id);
    if (operation === undefined) throw new AgentError('NOT_FOUND', `No operation ${id}`);
    return operation;
  }

  #fenced(method: string, params: Params): Operation {
    const { key, epoch } = params as { key: string; epoch: number };
    const repeated = this.#byKey.get(key);
    if (repeated !== undefined) return this.operations.get(repeated.id) ?? repeated;
    if (epoch < this.#highestEpoch) {
      throw new AgentError('STALE', `Epoch ${this.#highestEpoch} was seen`, {
        details: { epoch: this.#highestEpoch },
      });
    }
    this.#highestEpoch = epoch;
    const operation = bringsInstance(method) ? this.#create(method, params) : this.#act(method, params);
    this.#byKey.set(key, operation);
    return operation;
  }

  #create(method: string, params: Params): Operation {
    const { id, spec } = params as { id: string; spec: InstanceSpec };
    const instance = { ...anInstance(id, spec), ...takenDisks(params) };
    this.instances.set(id, instance);
    this.#inventoryGeneration++;
    this.emit('instance.created', { instance });
    return this.#begin(method, instance);
  }

  #act(method: string, params: Params): Operation {
    const instance = this.instances.get(String(params['id']));
    if (instance === undefined) throw new AgentError('NOT_FOUND', `No ${String(params['id'])} here`);
    return this.#begin(method, instance);
  }

  #begin(kind: string, instance: Instance): Operation {
    const operation = anOperation(kind, instance);
    this.operations.set(operation.id, operation);
    this.emit('operation.changed', { operation });
    return operation;
  }

  /** What the scheduler has not is told at once, before anything that follows from its next request. */
  #takeWelcome(welcome: HelloResult): void {
    this.welcome = welcome;
    for (const event of this.events.filter(({ seq }) => seq > welcome.lastSeq)) this.#tell(event);
  }

  #tell(event: BerthEvent): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.notify('event', event);
  }

  #handleMessage(socket: WebSocket, text: string): void {
    const message = JSON.parse(text) as RpcRequest & RpcResponse;
    if (message.method === 'ack') {
      const { seq, revision } = message.params as { seq?: number; revision?: string | null };
      this.acked = seq ?? this.acked;
      if (revision !== undefined) this.revisions.push(revision);
    } else if (message.method !== undefined) {
      this.#takeRequest(socket, message);
    } else if (message.id === 'hello' && message.error === undefined && this.welcome === null) {
      this.#takeWelcome(message.result as HelloResult);
    } else {
      this.replies.push(message);
    }
  }

  #takeRequest(socket: WebSocket, { id, method, params }: RpcRequest): void {
    this.requests.push({ method, params: params as Params });
    let reply: object;
    try {
      reply = { result: this.#handle(method, params as Params) };
    } catch (error) {
      reply = { error: rpcErrorOf(AgentError.from(error)) };
    }
    if (this.#held.has(method)) return;
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ jsonrpc: '2.0', id, ...reply }));
  }

  #handleClose(socket: WebSocket, code: number, reason: string): void {
    if (socket !== this.#socket) return;
    this.closeCode = code;
    this.closeReason = reason;
  }
}

/** Of an instance that was another node's. */
function takenDisks({ volumes }: Params): Partial<Instance> {
  if (volumes === undefined) return {};
  const taken = volumes as { id: string; name: string; pool: string; sizeGib: number }[];
  const disks = taken.map(({ id, name, ...rest }) => ({
    volumeId: id,
    volume: name,
    deletedWithInstance: true,
    ...rest,
  }));
  return { disks };
}
