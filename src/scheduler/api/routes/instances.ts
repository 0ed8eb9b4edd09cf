/**
 * /v1/instances: make, find, start, stop, reboot and delete instances, wherever they are.
 */

import { Id, nullable, strict } from '../../../model/common.ts';
import { InstanceSpec } from '../../../model/instance.ts';
import { METHODS } from '../../../model/methods.ts';
import { type Static, type TProperties, type TSchema, Type } from '../../../model/schema.ts';
import type { Commands } from '../../commands/commands.ts';
import { InstanceView } from '../../instance-views.ts';
import { PlacementRequest } from '../../placement/request.ts';
import type { Store } from '../../store/store.ts';
import {
  CommandAnswer,
  GenerationQuery,
  InstanceParam,
  limitOf,
  NodeParam,
  PageQuery,
} from '../parameters.ts';
import { nextOf } from '../../store/page.ts';
import { type Route, route } from '../route.ts';

export interface InstanceRouteParts {
  store: Store;
  commands: Commands;
}

const ofInstance = strict({ instance: InstanceParam });

export function instanceRoutes(parts: InstanceRouteParts): Route[] {
  const { commands } = parts;
  return [
    createRoute(commands),
    listRoute(parts),
    route({
      method: 'GET',
      path: '/v1/instances/{instance}',
      summary: 'Show one instance.',
      params: ofInstance,
      result: strict({ instance: InstanceView }),
      handle: ({ params }) => ({ instance: commands.show(commands.find(params.instance)) }),
    }),
    deleteRoute(commands),
    actionRoute(commands, 'start'),
    actionRoute(commands, 'stop'),
    actionRoute(commands, 'reboot'),
  ];
}

function createRoute(commands: Commands): Route {
  return route({
    method: 'POST',
    path: '/v1/instances',
    summary: 'Place an instance on a node with room, or on the one that is named, and make it.',
    body: strict({
      spec: InstanceSpec,
      node: Type.Optional(NodeParam),
      placement: Type.Optional(PlacementRequest),
    }),
    takesKey: true,
    status: 202,
    result: CommandAnswer,
    handle: ({ body: { spec, node = null, placement = {} }, key }) =>
      commands.create({ spec, node, placement, key }),
  });
}

function listRoute({ store, commands }: InstanceRouteParts): Route {
  return route({
    method: 'GET',
    path: '/v1/instances',
    summary: 'List the instances by id; `next`, where it is not null, is `after` for the next page.',
    query: PageQuery,
    result: strict({ instances: Type.Array(InstanceView), next: nullable(Id) }),
    handle: ({ query }) => {
      const limit = limitOf(query);
      const rows = store.instances.list({ after: query.after, limit });
      return { instances: rows.map((row) => commands.show(row)), next: nextOf(rows, limit) };
    },
  });
}

function deleteRoute(commands: Commands): Route {
  return route({
    method: 'DELETE',
    path: '/v1/instances/{instance}',
    summary: METHODS['instance.delete'].summary,
    params: ofInstance,
    query: GenerationQuery,
    takesKey: true,
    status: 202,
    result: CommandAnswer,
    handle: ({ params, query, key }) =>
      commands.act({
        method: 'instance.delete',
        instance: params.instance,
        params: query.generation === undefined ? {} : { generation: Number(query.generation) },
        key,
      }),
  });
}

/** The body is the method's parameters, without what path and header say. */
const ACTION_BODIES = {
  start: withoutFence(METHODS['instance.start'].params.properties),
  stop: withoutFence(METHODS['instance.stop'].params.properties),
  reboot: withoutFence(METHODS['instance.reboot'].params.properties),
};

function actionRoute(commands: Commands, action: keyof typeof ACTION_BODIES): Route {
  const body: TSchema = ACTION_BODIES[action];
  return route({
    method: 'POST',
    path: `/v1/instances/{instance}/${action}`,
    summary: METHODS[`instance.${action}`].summary,
    params: ofInstance,
    body,
    takesKey: true,
    status: 202,
    result: CommandAnswer,
    handle: (input) =>
      commands.act({
        method: `instance.${action}`,
        instance: (input.params as Static<typeof ofInstance>).instance,
        params: input.body as Record<string, unknown>,
        key: input.key,
      }),
  });
}

function withoutFence({
  id: _id,
  key: _key,
  epoch: _epoch,
  ...own
}: { id: TSchema; key: TSchema; epoch: TSchema } & TProperties) {
  return strict(own);
}
