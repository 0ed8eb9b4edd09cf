#!/usr/bin/env node
/**
 * berth-scheduler: the composition root. Reads the command line, starts the scheduler, ends it on a signal; or a gateway of one
 * (relay/), or asks one that runs (admin.ts).
 *
 * Exit codes: 0 ended by a signal, 1 could not start or failed, 2 usage.
 */
import { CommanderError } from 'commander';
import { type Logger, pino } from 'pino';
import { AgentError } from '../model/errors.ts';
import { isAdminCommand, runAdmin } from './admin.ts';
import { systemClock } from './clock.ts';
import { type CommandLine, readCommandLine } from './options.ts';
import { startGateway } from './relay/gateway.ts';
import { isGatewayCommand, readGatewayCommandLine } from './relay/options.ts';
import { type Scheduler, startScheduler } from './scheduler.ts';
import { loadOrCreateToken } from './token.ts';

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);

await main(process.argv.slice(2));

async function main(argv: string[]): Promise<void> {
  if (isAdminCommand(argv)) return administer(argv);
  if (isGatewayCommand(argv)) return serveGateway(argv);
  const commandLine = readOrExplain(() => readCommandLine(argv));
  if (commandLine === null) return;
  const logger = pino({ name: 'berth-scheduler', level: commandLine.logLevel });
  try {
    const scheduler = await start(commandLine, logger);
    logger.info({ address: scheduler.address, epoch: scheduler.epoch }, 'listening');
    endOnSignal(scheduler, logger);
  } catch (error) {
    logger.fatal({ err: error }, 'cannot start');
    process.exitCode = 1;
  }
}

async function administer(argv: string[]): Promise<void> {
  const io = {
    out: (text: string) => void process.stdout.write(text),
    err: (text: string) => void process.stderr.write(text),
  };
  try {
    await runAdmin(argv, io);
  } catch (error) {
    const isUsage = error instanceof CommanderError;
    process.exitCode = isUsage ? (error.exitCode === 0 ? 0 : 2) : 1;
    if (isUsage) return;
    const { message, hint } = AgentError.from(error).toBody();
    io.err(`berth-scheduler: ${message}\n${hint === undefined ? '' : `  ${hint}\n`}`);
  }
}

async function serveGateway(argv: string[]): Promise<void> {
  const commandLine = readOrExplain(() => readGatewayCommandLine(argv));
  if (commandLine === null) return;
  const logger = pino({ name: 'berth-gateway', level: commandLine.logLevel });
  try {
    const gateway = await startGateway(commandLine, { clock: systemClock, logger });
    logger.info({ address: gateway.address }, 'listening');
    endOnSignal(gateway, logger);
  } catch (error) {
    logger.fatal({ err: error }, 'cannot start');
    process.exitCode = 1;
  }
}

function readOrExplain<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    return null;
  }
}

async function start(commandLine: CommandLine, logger: Logger): Promise<Scheduler> {
  const { listen, tokenFile, tls, logLevel: _, ...options } = commandLine;
  if (tls === null && !LOOPBACK.has(listen.host)) {
    logger.warn(
      { host: listen.host },
      'the token goes over the network in plain text: give --ca, or --tls-cert',
    );
  }
  const token = loadOrCreateToken(tokenFile);
  return startScheduler({ ...options, listen, tls, token }, { clock: systemClock, logger });
}

function endOnSignal(running: { close(): Promise<void> }, logger: Logger): void {
  let ending = false;
  const end = (signal: string): void => {
    if (ending) return;
    ending = true;
    logger.info({ signal }, 'stopping');
    running.close().then(
      () => logger.info('stopped'),
      (error) => {
        logger.fatal({ err: error }, 'could not stop in order');
        process.exitCode = 1;
      },
    );
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}
