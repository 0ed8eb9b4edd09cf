/** Everything that a scheduler owes an agent, in the order in which it is tried. */
import type { Clause } from '../clause.ts';
import type { SchedulerBench } from './bench.ts';
import { DOOR_CLAUSES } from './door.ts';
import { MANNER_CLAUSES } from './manners.ts';
import { REPORT_CLAUSES } from './reports.ts';

export const SCHEDULER_CLAUSES: readonly Clause<SchedulerBench>[] = [
  ...DOOR_CLAUSES,
  ...REPORT_CLAUSES,
  ...MANNER_CLAUSES,
];
