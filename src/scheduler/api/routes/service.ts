/**
 * What operators do with nodes: take them out of service, put them back, and say that a lost one runs nothing any more.
 */
import { Id, nullable, strict, Timestamp } from '../../../model/common.ts';
import { Type } from '../../../model/schema.ts';
import type { Commands } from '../../commands/commands.ts';
import { type Directory, NodeView } from '../../nodes/directory.ts';
import type { Fences } from '../../nodes/fence.ts';
import type { Service } from '../../nodes/service.ts';
import { NODE_SERVICES } from '../../store/nodes.ts';
import { OPERATOR_ACTIONS } from '../../store/operator-log.ts';
import type { Store } from '../../store/store.ts';
import {
  ByWhom,
  CommandAnswer,
  EventPage,
  InstanceParam,
  limitOf,
  NodeParam,
  Reason,
} from '../parameters.ts';
import { type Route, route } from '../route.ts';

export interface ServiceRouteParts {
  store: Store;
  directory: Directory;
  service: Service;
  fences: Fences;
  commands: Commands;
}

/** Who asks where the caller does not say. */
const ANYONE = 'HTTP API';
const ofNode = strict({ node: NodeParam });
const Shown = strict({ node: NodeView });

export function serviceRoutes(parts: ServiceRouteParts): Route[] {
  return [stateRoute(parts), ...fenceRoutes(parts), restartRoute(parts), logRoute(parts)];
}

function stateRoute({ directory, service }: ServiceRouteParts): Route {
  return route({
    method: 'POST',
    path: '/v1/nodes/{node}/state',
    summary: 'Have a node take instances, take none, or be left alone; no guest is stopped by it.',
    params: ofNode,
    body: strict({ state: Type.Enum([...NODE_SERVICES]), by: Type.Optional(ByWhom), reason: Reason }),
    result: Shown,
    handle: ({ params, body: { state, by = ANYONE, reason } }) => {
      const { id } = directory.find(params.node);
      service.set(id, { state, by, reason });
      return { node: directory.show(directory.find(id)) };
    },
  });
}

function fenceRoutes({ directory, fences }: ServiceRouteParts): Route[] {
  const of = (action: 'fence' | 'unfence', summary: string): Route =>
    route({
      method: 'POST',
      path: `/v1/nodes/{node}/${action}`,
      summary,
      params: ofNode,
      body: strict({ by: ByWhom, reason: Reason }),
      result: Shown,
      handle: ({ params, body }) => {
        const { id } = directory.find(params.node);
        fences[action](id, body);
        return { node: directory.show(directory.find(id)) };
      },
    });
  return [
    of(
      'fence',
      'Say that a lost node is powered off, or cut off from its storage: it runs nothing any more.',
    ),
    of('unfence', 'Take that back.'),
  ];
}

function restartRoute({ commands }: ServiceRouteParts): Route {
  return route({
    method: 'POST',
    path: '/v1/instances/{instance}/restart-elsewhere',
    summary: 'Have an instance of a fenced node go on on another one, with its volumes on shared pools.',
    params: strict({ instance: InstanceParam }),
    body: strict({ node: Type.Optional(NodeParam), by: ByWhom, reason: Reason }),
    takesKey: true,
    status: 202,
    result: CommandAnswer,
    handle: ({ params, body: { node = null, ...operator }, key }) =>
      commands.restartElsewhere({ ...params, node, key, ...operator }),
  });
}

function logRoute({ store }: ServiceRouteParts): Route {
  return route({
    method: 'GET',
    path: '/v1/operator-log',
    summary: 'List what operators did with nodes, and why, oldest first.',
    query: EventPage,
    result: strict({
      entries: Type.Array(
        strict({
          number: Type.Integer(),
          at: Timestamp,
          action: Type.Enum([...OPERATOR_ACTIONS]),
          nodeId: Id,
          instanceId: nullable(Id),
          by: Type.String(),
          reason: Type.String(),
        }),
      ),
    }),
    handle: ({ query }) => ({
      entries: store.operatorLog.list({ after: Number(query.after ?? 0), limit: limitOf(query) }),
    }),
  });
}
