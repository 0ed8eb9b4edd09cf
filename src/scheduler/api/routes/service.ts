/**
 * /v1/nodes/{node}/state: operators take nodes out of service, and put them back.
 */
import { strict } from '../../../model/common.ts';
import { Type } from '../../../model/schema.ts';
import { type Directory, NodeView } from '../../nodes/directory.ts';
import type { Service } from '../../nodes/service.ts';
import { NODE_SERVICES } from '../../store/nodes.ts';
import { NodeParam, Reason } from '../parameters.ts';
import { type Route, route } from '../route.ts';

export interface ServiceRouteParts {
  directory: Directory;
  service: Service;
}

export function serviceRoutes({ directory, service }: ServiceRouteParts): Route[] {
  return [
    route({
      method: 'POST',
      path: '/v1/nodes/{node}/state',
      summary: 'Have a node take instances, take none, or be left alone; no guest is stopped by it.',
      params: strict({ node: NodeParam }),
      body: strict({ state: Type.Enum([...NODE_SERVICES]), reason: Reason }),
      result: strict({ node: NodeView }),
      handle: ({ params, body }) => {
        const { id } = directory.find(params.node);
        service.set(id, body);
        return { node: directory.show(directory.find(id)) };
      },
    }),
  ];
}
