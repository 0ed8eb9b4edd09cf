/**
 * The scheduler in one piece: parts made, wired, started and closed. Nothing here decides anything.
 *
 *   HTTP API ─▶ commands ─▶ journal (store) ─▶ claimer ─▶ dispatcher ─▶ link ─▶ agent
 *      │           └ placer ─▶ engine ◀──────────┘                         │
 *      └── directory, operations ◀── store ◀── mirror ◀── events, polls
 */
import { randomUUID } from 'node:crypto';
import type { Server } from 'node:https';
import { type AddressInfo, isIP } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { buildHttpServer } from './api/http-server.ts';
import { routesOf } from './api/routes.ts';
import { Enrolment } from './ca/enrolment.ts';
import type { Clock } from './clock.ts';
import { makeCore } from './core.ts';
import { type EngineChoice, makeEngine } from './engines/make-engine.ts';
import { AgentGateway } from './gateway/agent-gateway.ts';
import { Doorkeeper, type DoorkeeperParts } from './gateway/doorkeeper.ts';
import { BACKLOG, Entrance } from './gateway/entrance.ts';
import { Floodgate } from './gateway/floodgate.ts';
import { LinkTable } from './gateway/link-table.ts';
import { HeartbeatInterval } from './nodes/heartbeat-interval.ts';
import type { Policy } from './placement/request.ts';
import { takeEpoch } from './store/epoch.ts';
import { Pruner } from './store/pruner.ts';
import { Store } from './store/store.ts';
import { type Bus, type BusOptions, connectBus } from './relay/bus.ts';
import { RelayOwner } from './relay/owner.ts';
import { prepareTls, type Tls, type TlsChoice } from './tls.ts';
import { BearerCheck } from './token.ts';

/** Milliseconds between two probes of a link at most, however seldom heartbeats are. */
const PROBE_INTERVAL_LIMIT_MS = 10_000;

/** Connections at a time, those of callers included. */
const CONNECTIONS_LIMIT = 16_000;

/** Milliseconds that requests have to end when the scheduler stops; then their connections are cut. */
const CLOSE_GRACE_MS = 3_000;

export interface SchedulerOptions {
  /** Where to listen; port 0 takes a free one. */
  listen: { host: string; port: number };
  /** Folder of the database, or `:memory:`. */
  stateDir: string;
  token: string;
  heartbeatSeconds: number;
  /** Joins gateways to this scheduler. @default null: its own door alone */
  bus?: BusOptions | null;
  /** @default embedded */
  engine?: EngineChoice;
  /** Where a request names none. @default 'spread' */
  policy?: Policy;
  /** @default plain HTTP, and a bearer token of agents */
  tls?: TlsChoice | null;
}

export interface Scheduler {
  epoch: number;
  address: AddressInfo;
  /** Stops intake, closes links and the database. */
  close(): Promise<void>;
}

/**
 * Starts a scheduler; it is ready when the promise resolves.
 *
 * @throws {AgentError} as Database does; an error of the system where the address is taken.
 */
export async function startScheduler(
  options: SchedulerOptions,
  host: { clock: Clock; logger: Logger },
): Promise<Scheduler> {
  const report = (error: unknown) => host.logger.error({ err: error }, 'what follows a commit failed');
  const store = new Store(options.stateDir, { report });
  const wired = wire(store, options, host);
  try {
    if (options.bus) wired.join(await connectBus(options.bus, host.logger));
    await wired.app.listen({ ...options.listen, backlog: BACKLOG });
  } catch (error) {
    await wired.close();
    throw error;
  }
  const address = wired.app.server.address() as AddressInfo;
  return { epoch: wired.epoch, address, close: wired.close };
}

function wire(store: Store, options: SchedulerOptions, host: { clock: Clock; logger: Logger }) {
  const { clock, logger } = host;
  const { policy = 'spread' } = options;
  const interval = new HeartbeatInterval(options.heartbeatSeconds, () => store.nodes.count());
  const epoch = takeEpoch(store.db, clock.now());
  const base = { store, clock, logger, epoch, interval, newId: randomUUID };
  const tls = options.tls ? prepareTls(options.tls, options.stateDir, clock) : null;
  const enrolment = makeEnrolment(tls, { store, clock, logger, url: () => urlForNodes(options, app) });
  const links = new LinkTable();
  const engine = makeEngine(options.engine ?? { name: 'embedded' }, base);
  const core = makeCore({ ...base, engine, links, enrolment, policy, isCrowded: () => entrance.isCrowded });
  const bearer = new BearerCheck(options.token);
  const assertGood: Pick<DoorkeeperParts, 'assertGood'> =
    enrolment === null ? {} : { assertGood: enrolment.assertGood.bind(enrolment) };
  const doorkeeper = new Doorkeeper({
    clock,
    bearer,
    agentsShow: tls?.agentsShow ?? 'bearer',
    ...assertGood,
  });
  const floodgate = new Floodgate(clock);
  const gateway = new AgentGateway({
    ...base,
    floodgate,
    doorkeeper,
    peer: core.peer,
    links,
    probeIntervalMs: () => Math.min(interval.ms, PROBE_INTERVAL_LIMIT_MS),
  });
  const app = buildHttpServer({ routes: routesOf(core), bearer, logger, tls: tls?.options ?? null });
  const stopAttending = tls?.attend(app.server as unknown as Server) ?? (() => undefined);
  const entrance = new Entrance(app.server, {
    clock,
    connections: CONNECTIONS_LIMIT,
    isSecure: tls !== null,
    door: floodgate,
  });
  app.server.on('upgrade', (request, socket, head) => gateway.handleUpgrade(request, socket, head));
  core.resume();
  const pruner = new Pruner({ store, clock, logger });
  let leave = async (): Promise<void> => undefined;
  /** From now on gateways bring links, too. */
  const join = (bus: Bus): void => {
    const door = { enter: gateway.enter.bind(gateway), adopt: gateway.adopt.bind(gateway) };
    const owner = new RelayOwner({ ...base, bus, assertGood: assertGood.assertGood ?? null, ...door });
    leave = async () => {
      owner.close();
      await bus.close();
    };
  };
  const close = async (): Promise<void> => {
    const pruned = pruner.close();
    stopAttending();
    await core.stop();
    const intakeClosed = app.close();
    entrance.close();
    core.waiters.close();
    await gateway.close();
    await leave();
    const stopWaiting = clock.after(CLOSE_GRACE_MS, () => app.server.closeAllConnections());
    await intakeClosed;
    stopWaiting();
    core.close();
    await pruned;
    store.close();
  };
  return { app, epoch, join, close };
}

function makeEnrolment(
  tls: Tls | null,
  parts: { store: Store; clock: Clock; logger: Logger; url: () => string },
): Enrolment | null {
  return tls?.authority ? new Enrolment({ ...parts, authority: tls.authority }) : null;
}

/** Where nodes connect to: by the first name that the scheduler has a certificate for. */
function urlForNodes({ tls, listen }: SchedulerOptions, app: FastifyInstance): string {
  const host = (tls?.kind === 'authority' ? tls.hosts[0] : null) ?? listen.host;
  const { port } = app.server.address() as AddressInfo;
  return `wss://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}
