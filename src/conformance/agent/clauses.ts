/** Everything that an agent owes a scheduler, in the order in which it is tried. */
import type { Clause } from '../clause.ts';
import type { AgentBench } from './bench.ts';
import { COMMAND_CLAUSES } from './commands.ts';
import { EVENT_CLAUSES } from './events.ts';
import { HELLO_CLAUSES } from './hello.ts';
import { LINK_CLAUSES, MESSAGES_FIT } from './link.ts';
import { REQUEST_CLAUSES } from './requests.ts';

export const AGENT_CLAUSES: readonly Clause<AgentBench>[] = [
  ...HELLO_CLAUSES,
  ...REQUEST_CLAUSES,
  ...COMMAND_CLAUSES,
  ...EVENT_CLAUSES,
  ...LINK_CLAUSES,
  MESSAGES_FIT,
];
