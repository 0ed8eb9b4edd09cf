/** Methods of pools. They are configured, so nothing here makes or removes one. */
import { Name, strict } from '../common.ts';
import { none, read } from '../method.ts';
import { Pool } from '../pool.ts';
import { Type } from '../schema.ts';

export const POOL_METHODS = {
  'pool.list': read(
    'List the pools: what each has, what is claimed of it, and how it is.',
    none,
    strict({ pools: Type.Array(Pool, { description: 'the default one first' }) }),
  ),
  'pool.show': read(
    'Show one pool.',
    strict({ id: { ...Name, description: 'name of the pool' } }),
    strict({ pool: Pool }),
  ),
} as const;
