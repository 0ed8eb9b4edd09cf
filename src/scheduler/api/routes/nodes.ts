/**
 * /v1/nodes: what nodes there are, what they say, and the operator's way to ask them anything.
 */

import { Id, nullable, strict } from '../../../model/common.ts';
import { AgentError } from '../../../model/errors.ts';
import { BerthEvent } from '../../../model/event.ts';
import { Instance } from '../../../model/instance.ts';
import { isMethodName, METHOD_NAMES, METHODS, type MethodName } from '../../../model/methods.ts';
import { Inventory, NodeStatus } from '../../../model/node.ts';
import type { Operation } from '../../../model/operation.ts';
import { type Static, Type } from '../../../model/schema.ts';
import { parse, suggest } from '../../../model/validate.ts';
import type { Links } from '../../gateway/link-table.ts';
import { ask } from '../../nodes/ask.ts';
import { type Directory, NodeView } from '../../nodes/directory.ts';
import type { Mirror } from '../../nodes/mirror.ts';
import type { Poller } from '../../nodes/poller.ts';
import { nextOf } from '../../store/page.ts';
import type { Store } from '../../store/store.ts';
import { EventPage, limitOf, NodeParam, PageQuery } from '../parameters.ts';
import { type Route, route } from '../route.ts';

export interface NodeRouteParts {
  store: Store;
  directory: Directory;
  poller: Poller;
  mirror: Mirror;
  links: Links;
  epoch: number;
  newId: () => string;
}

const ofNode = strict({ node: NodeParam });

const Call = strict({
  method: Type.String({ maxLength: 64, description: 'any of the method table' }),
  params: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});

export function nodeRoutes(parts: NodeRouteParts): Route[] {
  const { directory } = parts;
  return [
    route({
      method: 'GET',
      path: '/v1/nodes',
      summary: 'List the nodes by id; `next`, where it is not null, is `after` for the next page.',
      query: PageQuery,
      result: strict({ nodes: Type.Array(NodeView), next: nullable(Id) }),
      handle: ({ query }) => {
        const limit = limitOf(query);
        const nodes = directory.showPage({ after: query.after, limit });
        return { nodes, next: nextOf(nodes, limit) };
      },
    }),
    route({
      method: 'GET',
      path: '/v1/nodes/{node}',
      summary: 'Show one node.',
      params: ofNode,
      result: strict({ node: NodeView }),
      handle: ({ params }) => ({ node: directory.show(directory.find(params.node)) }),
    }),
    eventsRoute(parts),
    pollRoute(parts),
    callRoute(parts),
  ];
}

function eventsRoute({ directory, store }: NodeRouteParts): Route {
  return route({
    method: 'GET',
    path: '/v1/nodes/{node}/events',
    summary: 'List the stored events of a node, oldest first.',
    params: ofNode,
    query: EventPage,
    result: strict({ events: Type.Array(BerthEvent), lastSeq: Type.Integer() }),
    handle: ({ params, query }) => {
      const node = directory.find(params.node);
      const page = { after: Number(query.after ?? 0), limit: limitOf(query) };
      return { events: store.events.list(node.id, page), lastSeq: node.lastSeq };
    },
  });
}

function pollRoute({ directory, poller }: NodeRouteParts): Route {
  return route({
    method: 'POST',
    path: '/v1/nodes/{node}/poll',
    summary: 'Ask a node for its inventory, instances and status now.',
    params: ofNode,
    result: strict({
      node: NodeView,
      inventory: Inventory,
      instances: Type.Array(Instance),
      status: NodeStatus,
    }),
    handle: async ({ params }) => {
      const { id } = directory.find(params.node);
      const polled = await poller.poll(id);
      return { node: directory.show(directory.find(id)), ...polled };
    },
  });
}

function callRoute(parts: NodeRouteParts): Route {
  return route({
    method: 'POST',
    path: '/v1/nodes/{node}/call',
    summary: 'Have a node answer any method of the method table; nothing is placed or journaled here.',
    params: ofNode,
    body: Call,
    takesKey: true,
    result: strict({ result: Type.Unknown() }),
    handle: async ({ params, body, key }) => {
      const node = parts.directory.find(params.node);
      return { result: await call(parts, node.id, body, key) };
    },
  });
}

async function call(
  parts: NodeRouteParts,
  nodeId: string,
  { method, params = {} }: Static<typeof Call>,
  key: string | null,
): Promise<unknown> {
  if (!isMethodName(method)) throw unknownMethod(method);
  const checked = parse(METHODS[method].params, params, `params of ${method}`) as Record<string, unknown>;
  if (METHODS[method].kind !== 'operation') return ask(parts.links, nodeId, method, checked);
  const fence = { key: key ?? parts.newId(), epoch: parts.epoch };
  const result = await ask(parts.links, nodeId, method as MethodName, { ...fence, ...checked });
  const { operation } = result as { operation: Operation };
  return { operation: parts.store.db.transaction(() => parts.mirror.applyOperation(nodeId, operation)) };
}

function unknownMethod(method: string): AgentError {
  const near = suggest(method, METHOD_NAMES);
  const hint = near === null ? `Known are ${METHOD_NAMES.join(', ')}.` : `Did you mean ${near}?`;
  return new AgentError('INVALID_ARGUMENT', `There is no method ${JSON.stringify(method)}`, { hint });
}
