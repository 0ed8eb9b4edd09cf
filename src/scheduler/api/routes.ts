/** All routes of the HTTP API. */
import type { Core } from '../core.ts';
import type { Route } from './route.ts';
import { instanceRoutes } from './routes/instances.ts';
import { nodeRoutes } from './routes/nodes.ts';
import { operationRoutes } from './routes/operations.ts';
import { serviceRoutes } from './routes/service.ts';
import { trustRoutes } from './routes/trust.ts';
import { usageRoutes } from './routes/usage.ts';

export function routesOf(core: Core): Route[] {
  return [
    ...nodeRoutes(core),
    ...serviceRoutes(core),
    ...instanceRoutes(core),
    ...operationRoutes(core),
    ...usageRoutes(core),
    ...trustRoutes({ ...core, idOf: (node) => core.directory.find(node).id }),
  ];
}
