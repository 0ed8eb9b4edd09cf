/** All migrations in order: the version of a database is the number of those it has been through. */
import { init } from './001-init.ts';
import { trust } from './002-trust.ts';
import { outboxes } from './003-outboxes.ts';
import { engines } from './004-engines.ts';
import { fences } from './005-fences.ts';
import { usage } from './006-usage.ts';
import { revisions } from './007-revisions.ts';
import { tokenTimes } from './008-token-times.ts';
import { ends } from './009-ends.ts';

export const migrations: readonly string[] = [
  init,
  trust,
  outboxes,
  engines,
  fences,
  usage,
  revisions,
  tokenTimes,
  ends,
];
