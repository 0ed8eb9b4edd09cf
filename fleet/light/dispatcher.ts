/**
 * Answers what a scheduler asks of a light node, by the product's method table: what does not fit it is refused as a
 * full agent refuses it, and what a light node has not is UNSUPPORTED.
 */
import type { LinkDispatcher } from '../../src/agent/link/ports.ts';
import { AgentError } from '../../src/model/errors.ts';
import { isMethodName, METHODS } from '../../src/model/methods.ts';
import type { Health, NodeStatus } from '../../src/model/node.ts';
import { hasEnded } from '../../src/model/operation.ts';
import { parse } from '../../src/model/validate.ts';
import { VERSION } from '../../src/model/version.ts';
import type { LightNode, LightParams } from './node.ts';
import { isLightMethod } from './operation.ts';
import type { LightStore } from './store.ts';

export interface LightDispatcherParts {
  nodeId: string;
  hostname: string;
  node: LightNode;
  store: LightStore;
  startedAt: string;
}

export class LightDispatcher implements LinkDispatcher {
  readonly #parts: LightDispatcherParts;

  constructor(parts: LightDispatcherParts) {
    this.#parts = parts;
  }

  async call(name: string, params: unknown): Promise<unknown> {
    if (!isMethodName(name)) throw new AgentError('UNSUPPORTED', `No method ${JSON.stringify(name)}`);
    const parsed = parse(METHODS[name].params, params ?? {}, `params of ${name}`) as LightParams;
    if (isLightMethod(name)) return { operation: this.#parts.node.submit(name, parsed) };
    return this.#read(name, parsed);
  }

  #read(name: string, { id = '' }: LightParams): unknown {
    const { node, store } = this.#parts;
    switch (name) {
      case 'inventory.get':
        return node.get();
      case 'instance.list':
        return { instances: [...store.byId.values()] };
      case 'node.status':
        return this.#status();
      case 'operation.list':
        return { operations: node.operations() };
      case 'operation.get':
        return { operation: node.operation(id) };
      case 'volume.list':
      case 'share.list':
      case 'image.list':
      case 'network.list':
        return { [`${name.split('.')[0]}s`]: [] };
      default:
        throw new AgentError('UNSUPPORTED', `A light agent does not know ${name}`);
    }
  }

  #status(): NodeStatus {
    const { nodeId, hostname, node, store, startedAt } = this.#parts;
    const ok = (reason: string): Health => ({ state: 'ok', since: startedAt, reason });
    const running = node.operations().filter(({ state }) => !hasEnded(state)).length;
    return {
      nodeId,
      hostname,
      version: VERSION,
      startedAt,
      hypervisor: ok('connected'),
      storage: ok('measured'),
      scheduler: ok('connected'),
      policies: ok('in force'),
      database: ok('new'),
      instances: powersOf(store),
      foreignDomains: 0,
      operations: { running, pending: 0 },
      unacknowledgedEvents: store.events.lastSeq() - store.events.acknowledgedSeq,
      problems: [],
      problemsLeftOut: 0,
    };
  }
}

function powersOf(store: LightStore): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { power } of store.byId.values()) counts[power.state] = (counts[power.state] ?? 0) + 1;
  return counts;
}
