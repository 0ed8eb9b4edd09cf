/** What a clause about schedulers is tried with. */
import type { AgentSide } from './agent-side.ts';

export interface SchedulerBench {
  side: AgentSide;
  /** That nodes show; null where they show nothing. */
  token: string | null;
}
