/**
 * One process of agents: does what it is ordered over IPC, and ends with the process that has started it.
 */
import { constants, setPriority } from 'node:os';
import { AgentError } from '../src/model/errors.ts';
import { Crew } from './crew.ts';
import type { Launch, Order, OrderAnswer, OrderName, OrderParams, OrderResult } from './orders.ts';

let crew: Crew | null = null;

type Handlers = { [O in OrderName]: (params: OrderParams<O>) => Promise<OrderResult<O>> | OrderResult<O> };

const HANDLERS: Handlers = {
  launch: (params) => muster(params),
  countLinked: ({ sinceMs }) => theCrew().countLinked(sinceMs),
  countBehind: () => theCrew().countBehind(),
  stir: () => theCrew().stir(),
  restart: () => theCrew().restart(),
  slowDown: ({ count }) => theCrew().slowDown(count),
  redirectLast: ({ url }) => theCrew().redirectLast(url),
  nodeIds: () => theCrew().nodeIds(),
  verify: () => theCrew().verify(),
  stop: () => stop(),
};

// Real agents are on hosts of their own: these have what the gateway leaves them.
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);

process.on('message', (order: Order) => void answer(order));
// The first process ends all by itself; a terminal's interrupt reaches the whole group.
process.on('SIGINT', () => undefined);
process.on('disconnect', () => void stop());

/** Milliseconds that agents have to stop; whatever still holds on then, nobody is there to be answered. */
const STOP_LIMIT_MS = 10_000;

async function answer({ id, name, params }: Order): Promise<void> {
  const handle = HANDLERS[name] as (params: unknown) => unknown;
  const said = await outcomeOf(id, async () => handle(params));
  if (process.connected) process.send?.(said);
}

async function outcomeOf(id: number, body: () => Promise<unknown>): Promise<OrderAnswer> {
  try {
    return { id, result: (await body()) ?? null };
  } catch (error) {
    return { id, error: AgentError.from(error).toBody() };
  }
}

function theCrew(): Crew {
  if (crew === null) throw new AgentError('ILLEGAL_STATE', 'The worker has no agents yet');
  return crew;
}

async function muster(launch: Launch): Promise<void> {
  crew = new Crew(launch);
  await crew.muster();
}

async function stop(): Promise<void> {
  const stopping = crew;
  crew = null;
  setTimeout(() => process.exit(1), STOP_LIMIT_MS).unref();
  await stopping?.stop();
  if (process.connected) setImmediate(() => process.disconnect());
}
