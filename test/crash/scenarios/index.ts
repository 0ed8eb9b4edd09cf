/** All scenarios. A kind of operation without one fails test/crash/scenarios.test.ts. */
import { BACKUPS } from './backups.ts';
import { ENCRYPTED } from './encryption.ts';
import { INSTANCES } from './instances.ts';
import { NETWORKS } from './networks.ts';
import { NODE } from './node.ts';
import type { Scenario } from './scenario.ts';
import { SNAPSHOTS } from './snapshots.ts';
import { SHARES } from './shares.ts';
import { STORAGE } from './storage.ts';

export const SCENARIOS: readonly Scenario[] = [
  ...INSTANCES,
  ...STORAGE,
  ...ENCRYPTED,
  ...SNAPSHOTS,
  ...SHARES,
  ...BACKUPS,
  ...NETWORKS,
  ...NODE,
];
