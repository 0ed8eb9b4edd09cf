/** All migrations in order: the version of a database is the number of those it has been through. */
import { init } from './001-init.ts';
import { cancelAndParent } from './002-cancel-and-parent.ts';
import { names } from './003-names.ts';
import { policies } from './004-policies.ts';
import { drift } from './005-drift.ts';
import { seals } from './006-seals.ts';
import { images } from './007-images.ts';
import { disks } from './008-disks.ts';
import { snapshots } from './009-snapshots.ts';
import { shares } from './011-shares.ts';
import { seeds } from './012-seeds.ts';
import { pools } from './013-pools.ts';
import { encryption } from './014-encryption.ts';
import { edges } from './016-edges.ts';
import { audit } from './017-audit.ts';
import { indexes } from './018-indexes.ts';
import { usage } from './019-usage.ts';
import { outbox } from './021-outbox.ts';
import { reservations } from './022-reservations.ts';
import { openOperations } from './023-open-operations.ts';

export const migrations: readonly string[] = [
  init,
  cancelAndParent,
  names,
  policies,
  drift,
  seals,
  images,
  disks,
  snapshots,
  shares,
  seeds,
  pools,
  encryption,
  edges,
  audit,
  indexes,
  usage,
  outbox,
  reservations,
  openOperations,
];
