/** docs/scheduler-openapi.json: the scheduler's HTTP API, made from its routes. */
import { openApiOf } from '../../src/scheduler/api/openapi.ts';
import { routesOf } from '../../src/scheduler/api/routes.ts';
import type { Core } from '../../src/scheduler/core.ts';

/** Routes are data: nothing of the core is asked before one of them is called. */
export function schedulerOpenApi(): object {
  return openApiOf(routesOf({} as Core));
}
