/** What a clause about agents is tried with. */
import type { SchedulerSide } from './scheduler-side.ts';

export interface AgentBench {
  side: SchedulerSide;
  /** That the agent was given; null where it shows a certificate or nothing. */
  token: string | null;
}
