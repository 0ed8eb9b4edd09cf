/** All faults, in the order in which the table has them. */
import { CLOCK } from './clock.ts';
import { DISKS } from './disks.ts';
import type { Fault } from './fault.ts';
import { HYPERVISOR } from './hypervisor.ts';
import { KILLS } from './kills.ts';
import { STATE } from './state.ts';

export const FAULTS: readonly Fault[] = [...KILLS, ...HYPERVISOR, ...DISKS, ...CLOCK, ...STATE];
