#!/usr/bin/env node
/**
 * berthd: the composition root. Reads the configuration, names the drivers, and runs the agent until a
 * signal ends it.
 *
 * Exit codes: 0 stopped as asked; 1 could not start or broke; 2 usage or configuration.
 */
import { parseArgs } from 'node:util';
import { destination, pino, stdSerializers } from 'pino';
import { systemClock } from '../drivers/contracts/clock.ts';
import { HostExec } from '../drivers/host/exec.ts';
import { ServiceNotifier } from '../drivers/host/notify.ts';
import { AgentError } from '../model/errors.ts';
import { VERSION } from '../model/version.ts';
import { Agent } from './agent.ts';
import { loadConfig } from './config/load.ts';
import type { Config } from './config/schema.ts';
import { makeDrivers } from './drivers.ts';
import type { Log } from './log.ts';

const DEFAULT_CONFIG = '/etc/berth/berthd.toml';

/** Pulse without a watchdog, ms. */
const IDLE_PULSE_MS = 60_000;

const HELP = `berthd ${VERSION}: turns this server into a node of a cloud

Usage: berthd [--config FILE] [--check-config]

  --config FILE    configuration (default ${DEFAULT_CONFIG})
  --check-config   say whether the configuration is right, and exit
  --version        print the version
  --help           print this text
`;

async function main(): Promise<void> {
  const args = readArguments();
  if (args.help) process.stdout.write(HELP);
  else if (args.version) process.stdout.write(`${VERSION}\n`);
  else if (args['check-config']) checkConfig(args.config);
  else await run(loadConfig(args.config));
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        config: { type: 'string', default: DEFAULT_CONFIG },
        'check-config': { type: 'boolean', default: false },
        version: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    throw new AgentError('INVALID_ARGUMENT', 'Wrong arguments', { cause, hint: 'See berthd --help.' });
  }
}

function checkConfig(file: string): void {
  loadConfig(file);
  process.stdout.write(`${file} is right\n`);
}

async function run(config: Config): Promise<void> {
  const log = pino(
    { level: config.log.level, serializers: { error: stdSerializers.errWithCause } },
    destination({ fd: 1, sync: false }),
  );
  const exec = new HostExec();
  const drivers = await makeDrivers(config, { clock: systemClock, exec, log });
  // With an exec of its own the watchdog is fed even while the drivers' children take every place of theirs.
  const notifier = new ServiceNotifier({
    exec: new HostExec(),
    environment: process.env,
    pid: process.pid,
  });
  try {
    const agent = new Agent({ config, drivers, clock: systemClock, log });
    await serve(agent, { config, notifier, log });
  } finally {
    await drivers.hypervisor.close();
  }
}

/** Runs the agent until a signal has stopped it. */
async function serve(
  agent: Agent,
  { config, notifier, log }: { config: Config; notifier: ServiceNotifier; log: Log },
): Promise<void> {
  const stopped = stopOnSignal(agent, notifier, log);
  const pulse = startPulse(notifier, log);
  try {
    await agent.start().catch((error: unknown) => agent.stop().then(() => Promise.reject(error)));
    log.info(
      { version: VERSION, socket: config.socket.path, startedInMs: Math.round(performance.now()) },
      'ready',
    );
    tell(log, notifier.ready(`version ${VERSION}, socket ${config.socket.path}`));
    await stopped;
    log.info({}, 'stopped');
  } finally {
    clearInterval(pulse);
  }
}

/** The first SIGTERM or SIGINT stops the agent in order; what it was doing is taken up by the next one. */
function stopOnSignal(agent: Agent, notifier: ServiceNotifier, log: Log): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stop = (signal: string) => {
    log.info({ signal }, 'stopping');
    tell(log, notifier.stopping());
    agent.stop().then(resolve, reject);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  return promise;
}

/**
 * Keeps the process alive while nothing else does, and tells the service manager that the event loop turns:
 * one that has stopped is restarted.
 */
function startPulse(notifier: ServiceNotifier, log: Log): NodeJS.Timeout {
  return setInterval(() => {
    if (notifier.watchdogIntervalMs !== null) tell(log, notifier.alive());
  }, notifier.watchdogIntervalMs ?? IDLE_PULSE_MS);
}

/** A service manager that can't be told is a line in the log, and no reason to stop. */
function tell(log: Log, told: Promise<void>): void {
  told.catch((error: unknown) => log.warn({ error }, 'the service manager could not be told'));
}

main().catch((thrown: unknown) => {
  const error = AgentError.from(thrown);
  const { message, hint } = error.toBody();
  process.stderr.write(`berthd: ${message}\n${hint === undefined ? '' : `  ${hint}\n`}`);
  process.exitCode = error.code === 'INVALID_ARGUMENT' ? 2 : 1;
});
