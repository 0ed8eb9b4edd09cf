#!/usr/bin/env node
/**
 * berthd: the composition root. Reads the configuration, names the drivers, and runs the agent until a
 * signal ends it.
 *
 * Exit codes: 0 stopped as asked; 1 could not start or broke; 2 usage or configuration; 3 the database that was to be
 * checked is damaged.
 */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { destination, pino, stdSerializers } from 'pino';
import { systemClock } from '../drivers/contracts/clock.ts';
import { HostExec } from '../drivers/host/exec.ts';
import { ServiceNotifier } from '../drivers/host/notify.ts';
import { PeerReader } from '../drivers/host/peers.ts';
import { THREADS_OF_FOLDER } from '../drivers/folder/gate.ts';
import { THREADS_OF_POOL } from '../drivers/qcow2/places.ts';
import { AgentError } from '../model/errors.ts';
import { VERSION } from '../model/version.ts';
import { Agent } from './agent.ts';
import { loadConfig } from './config/load.ts';
import { poolSettings } from './config/pools.ts';
import type { Config } from './config/schema.ts';
import { makeDrivers } from './drivers.ts';
import { readVendorData } from './instances/vendor-data.ts';
import type { Log } from './log.ts';
import { findDamageInStoreFile } from './store/store.ts';

const DEFAULT_CONFIG = '/etc/berth/berthd.toml';

/** Of --check-database. */
const EXIT_DAMAGED = 3;
/** A database of 400 MB takes two seconds on an idle machine, ms. */
const CHECK_TIMEOUT_MS = 120_000;

/** Pulse without a watchdog, ms. */
const IDLE_PULSE_MS = 60_000;

/** What a process that is stopped waits for calls that are still at work, ms: a healthy disk answers in far less. */
const LAST_CALLS_MS = 3_000;

/** What Node has by default. @see docs.libuv.org/en/v1.x/threadpool.html */
const NODE_THREADS = 4;

/** Databases that are set aside in one life of the process; a disk that breaks more of them is broken itself. */
const DAMAGED_LIMIT = 3;

const HELP = `berthd ${VERSION}: turns this server into a node of a cloud

Usage: berthd [--config FILE] [--check-config] [--check-database FILE]

  --config FILE    configuration (default ${DEFAULT_CONFIG})
  --check-config   say whether the configuration is right, and exit
  --check-database FILE
                   say whether a database that no berthd has open is whole, and exit: 0 whole, 3 damaged
  --version        print the version
  --help           print this text
`;

async function main(): Promise<void> {
  const args = readArguments();
  if (args.help) process.stdout.write(HELP);
  else if (args.version) process.stdout.write(`${VERSION}\n`);
  else if (args['check-config']) checkConfig(args.config);
  else if (args['check-database'] !== undefined) checkDatabase(args['check-database']);
  else await run(loadConfig(args.config));
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        config: { type: 'string', default: DEFAULT_CONFIG },
        'check-config': { type: 'boolean', default: false },
        'check-database': { type: 'string' },
        version: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    throw new AgentError('INVALID_ARGUMENT', 'Wrong arguments', { cause, hint: 'See berthd --help.' });
  }
}

function checkConfig(file: string): void {
  readVendorData(loadConfig(file).seeds.vendorDataFile);
  process.stdout.write(`${file} is right\n`);
}

function checkDatabase(file: string): void {
  if (!existsSync(file)) throw new AgentError('INVALID_ARGUMENT', `There is no file ${file}`);
  const damage = findDamageInStoreFile(file);
  process.stdout.write(damage === null ? `${file} is whole\n` : `${file} is damaged: ${damage}\n`);
  if (damage !== null) process.exitCode = EXIT_DAMAGED;
}

/** By this program itself, as a child: a large file takes seconds, in which the agent would answer nobody. */
function checkInChild(exec: HostExec): (path: string) => Promise<string | null> {
  return async (path) => {
    const args = [...process.execArgv, process.argv[1] as string, '--check-database', path];
    const options = { okCodes: [0, EXIT_DAMAGED], timeoutMs: CHECK_TIMEOUT_MS };
    const { exitCode, stdout } = await exec.run(process.execPath, args, options);
    return exitCode === 0 ? null : stdout.trim().slice(`${path} is damaged: `.length);
  };
}

/**
 * Node makes its threads for files with the first use of one: as many as all pools and folders of objects together may hold
 * while they hang, and those that it has by default besides.
 */
function reserveThreads(config: Config): void {
  const folders = config.objects.filter((store) => 'path' in store);
  const threads =
    NODE_THREADS + poolSettings(config).length * THREADS_OF_POOL + folders.length * THREADS_OF_FOLDER;
  process.env['UV_THREADPOOL_SIZE'] = String(threads);
}

async function run(config: Config): Promise<void> {
  reserveThreads(config);
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
  // And callers are told apart even then.
  const peers = new PeerReader(new HostExec());
  const stopping = stopOnSignal(notifier, log);
  try {
    for (let lives = 1; ; lives++) {
      const checkFile = checkInChild(exec);
      const agent = new Agent({ config, drivers, clock: systemClock, log, checkFile, peers });
      if ((await serve(agent, { config, notifier, log, stopping })) === 'stopped') break;
      if (lives === DAMAGED_LIMIT) throw damagedTooOften(config);
    }
    log.info({}, 'stopped');
  } finally {
    await drivers.hypervisor.close();
    endWithoutDisks(log);
  }
}

/**
 * A call that a disk has not answered holds a thread, for which Node waits, also in process.exit(). All that has to be kept
 * is: a process that has nothing else to do any more is not kept by a disk that hangs.
 */
function endWithoutDisks(log: Log): void {
  const end = () => {
    log.warn({}, 'a disk has not answered: the process ends without it');
    process.kill(process.pid, 'SIGKILL');
  };
  setTimeout(end, LAST_CALLS_MS).unref();
}

/** Runs an agent until a signal stops it, or until its database is damaged, for the next one to rebuild. */
async function serve(
  agent: Agent,
  {
    config,
    notifier,
    log,
    stopping,
  }: { config: Config; notifier: ServiceNotifier; log: Log; stopping: Promise<'stopped'> },
): Promise<'stopped' | 'damaged'> {
  const pulse = startPulse(notifier, log);
  try {
    const started = agent.start();
    const first = await Promise.race([started, stopping]);
    if (first === 'stopped') {
      started.catch(() => undefined); // what it meets on its way down is no news
      return 'stopped';
    }
    log.info(
      { version: VERSION, socket: config.socket.path, startedInMs: Math.round(performance.now()) },
      'ready',
    );
    tell(log, notifier.ready(`version ${VERSION}, socket ${config.socket.path}`));
    return await Promise.race([stopping, agent.damaged.then(() => 'damaged' as const)]);
  } catch (error) {
    if (agent.isDamaged) return 'damaged';
    throw error;
  } finally {
    await agent.stop();
    clearInterval(pulse);
  }
}

function damagedTooOften(config: Config): AgentError {
  return new AgentError('UNAVAILABLE', `${DAMAGED_LIMIT} databases in ${config.node.stateDir} were damaged`, {
    hint: 'See that its disk and the memory of this machine are in order.',
  });
}

/** The first SIGTERM or SIGINT stops the agent in order; what it was doing is taken up by the next one. */
function stopOnSignal(notifier: ServiceNotifier, log: Log): Promise<'stopped'> {
  const { promise, resolve } = Promise.withResolvers<'stopped'>();
  const stop = (signal: string) => {
    log.info({ signal }, 'stopping');
    tell(log, notifier.stopping());
    resolve('stopped');
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
