#!/usr/bin/env node
/**
 * berthd: the composition root. Reads the configuration, names the drivers, and runs the agent until a
 * signal ends it.
 *
 * Exit codes: 0 stopped as asked; 1 could not start or broke; 2 usage or configuration.
 */
import { parseArgs } from 'node:util';
import { destination, type Logger, pino, stdSerializers } from 'pino';
import { systemClock } from '../drivers/contracts/clock.ts';
import { AgentError } from '../model/errors.ts';
import { Agent } from './agent.ts';
import { loadConfig } from './config/load.ts';
import type { Config } from './config/schema.ts';
import { makeDrivers } from './drivers.ts';
import { ServiceManager } from './service-manager.ts';
import { VERSION } from './version.ts';

const DEFAULT_CONFIG = '/etc/berth/berthd.toml';

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
  const manager = new ServiceManager(log);
  const drivers = await makeDrivers(config, { clock: systemClock, log });
  const agent = new Agent({ config, drivers, clock: systemClock, log });
  const stopped = stopOnSignal(agent, manager, log);
  await agent.start();
  log.info({ version: VERSION, socket: config.socket.path, stateDir: config.node.stateDir }, 'ready');
  await manager.ready();
  await stopped;
}

/** The first SIGTERM or SIGINT stops the agent in order; what it was doing is taken up by the next one. */
function stopOnSignal(agent: Agent, manager: ServiceManager, log: Logger): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stop = (signal: string) => {
    log.info({ signal }, 'stopping');
    void manager.stopping();
    agent.stop().then(resolve, reject);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  return promise;
}

main().catch((thrown: unknown) => {
  const error = AgentError.from(thrown);
  const { message, hint } = error.toBody();
  process.stderr.write(`berthd: ${message}\n${hint === undefined ? '' : `  ${hint}\n`}`);
  process.exitCode = error.code === 'INVALID_ARGUMENT' ? 2 : 1;
});
