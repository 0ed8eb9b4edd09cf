/** The command line of `berth-scheduler gateway`. */
import { hostname } from 'node:os';
import { Command, Option } from 'commander';
import { commonFlags, faultOfTls, type LOG_LEVELS, readListen, tlsOf } from '../options.ts';
import type { BusOptions } from './bus.ts';
import { busFlags, busOf, faultOfBus } from './bus-options.ts';
import type { GatewayOptions } from './gateway.ts';

export type GatewayCommandLine = GatewayOptions & { logLevel: (typeof LOG_LEVELS)[number] };

/** Whether the command line starts a gateway. */
export function isGatewayCommand([first]: readonly string[]): boolean {
  return first === 'gateway';
}

/** @throws {CommanderError} for what is not allowed, or where help was asked for. */
export function readGatewayCommandLine(
  argv: readonly string[],
  say: (text: string) => void = (text) => process.stderr.write(text),
): GatewayCommandLine {
  const command = new Command('berth-scheduler gateway')
    .description('A door for agents that carries their links to the scheduler over NATS.')
    .addOption(
      new Option('--listen <host:port>', 'address for agents')
        .argParser(readListen)
        .default({ host: '127.0.0.1', port: 7681 }, '127.0.0.1:7681'),
    )
    .option(
      '--token-file <path>',
      'file with the bearer token that agents show: the same as the scheduler has',
    )
    .allowExcessArguments(false)
    .configureOutput({ writeErr: say })
    .exitOverride();
  for (const option of [...commonFlags('gateway'), ...busFlags()]) command.addOption(option);
  const flags = command.parse(argv.slice(1), { from: 'user' }).opts();
  const wrong =
    faultOfTls(flags) ??
    (flags['natsUrl'] === undefined ? '--nats-url is needed' : null) ??
    faultOfBus(flags);
  if (wrong !== null) command.error(`error: ${wrong}`);
  return Object.freeze({
    listen: flags['listen'],
    bus: busOf(flags, `berth-gateway on ${hostname()}`) as BusOptions,
    tokenFile: flags['tokenFile'] ?? null,
    tls: tlsOf(flags),
    logLevel: flags['logLevel'],
  });
}
