/**
 * /v1/operations: how far an operation is; with `?wait`, the answer comes when it has ended.
 */
import { Id, strict } from '../../../model/common.ts';
import { Operation } from '../../../model/operation.ts';
import type { Directory } from '../../nodes/directory.ts';
import type { Operations } from '../../operations.ts';
import { NodeParam, WaitQuery, waitMsOf } from '../parameters.ts';
import { type Route, route } from '../route.ts';

export interface OperationRouteParts {
  directory: Directory;
  operations: Operations;
}

const result = strict({ node: Id, operation: Operation });

export function operationRoutes({ directory, operations }: OperationRouteParts): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/operations/{id}',
      summary: 'Show an operation that a node has told of.',
      params: strict({ id: Id }),
      query: WaitQuery,
      result,
      handle: async ({ params, query }) => {
        const { nodeId, operation } = await operations.get({ nodeId: null, id: params.id }, waitMsOf(query));
        return { node: nodeId, operation };
      },
    }),
    route({
      method: 'GET',
      path: '/v1/operations/{node}/{id}',
      summary: 'Show an operation; its node is asked where it is not known here.',
      params: strict({ node: NodeParam, id: Id }),
      query: WaitQuery,
      result,
      handle: async ({ params, query }) => {
        const of = { nodeId: directory.find(params.node).id, id: params.id };
        const { nodeId, operation } = await operations.get(of, waitMsOf(query));
        return { node: nodeId, operation };
      },
    }),
  ];
}
