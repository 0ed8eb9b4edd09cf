/** All migrations in order: the version of a database is the number of those it has been through. */
import { init } from './001-init.ts';
import { trust } from './002-trust.ts';
import { engines } from './003-engines.ts';
import { fences } from './004-fences.ts';

export const migrations: readonly string[] = [init, trust, engines, fences];
