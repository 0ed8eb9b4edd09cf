/**
 * The command line of the fleet: read, checked once, frozen.
 */
import { Command, InvalidArgumentError, Option } from 'commander';

/** In this order: what disturbs most comes last. */
export const SCENARIOS = ['steady', 'commands', 'churn', 'slow', 'restart', 'crash'] as const;
export type ScenarioName = (typeof SCENARIOS)[number];

/** A gateway takes no more nodes. */
const AGENTS_MAX = 20_000;
/** A full agent takes some 2 MiB and 50 ms of CPU to start. */
const FULL_MAX = 500;
const PROCESSES_MAX = 32;
/** Agents of one process where no number of processes is given. */
const AGENTS_A_PROCESS = 2_500;
const SECONDS_MAX = 3_600;
const CREATES_MAX = 100_000;
const SEED_MAX = 2 ** 32 - 1;

export interface FleetOptions {
  readonly agents: number;
  /** How many of them are full ones. */
  readonly full: number;
  readonly processes: number;
  readonly seed: number;
  readonly scenarios: readonly ScenarioName[];
  readonly tls: boolean;
  /** Seconds for which the steady state is watched. */
  readonly seconds: number;
  readonly heartbeatSeconds: number;
  readonly creates: number;
  /** Stops and starts that are timed; twice as many reads. */
  readonly commands: number;
  readonly json: boolean;
  /** Folder for CPU profiles of the gateway; null for none. */
  readonly cpuProf: string | null;
}

/**
 * @param say Where it is said what is not allowed.
 * @throws {CommanderError} for what is not allowed, or where help was asked for.
 */
export function readOptions(
  argv: readonly string[],
  say: (text: string) => void = (text) => void process.stderr.write(text),
): FleetOptions {
  const command = commandLine().configureOutput({ writeErr: say }).exitOverride();
  const flags = command.parse(argv, { from: 'user' }).opts();
  const { agents, full, scenario } = flags;
  if (full > agents) command.error(`error: --full ${full} of ${agents} agents`);
  const processes = flags['processes'] ?? Math.ceil(agents / AGENTS_A_PROCESS);
  if (processes > agents) command.error(`error: --processes ${processes} for ${agents} agents`);
  return Object.freeze({
    agents,
    full,
    processes,
    seed: flags['seed'],
    scenarios: SCENARIOS.filter((name) => scenario === undefined || scenario.includes(name)),
    tls: flags['tls'] ?? false,
    seconds: flags['seconds'],
    heartbeatSeconds: flags['heartbeatSeconds'],
    creates: flags['creates'],
    commands: flags['commands'],
    json: flags['json'] ?? false,
    cpuProf: flags['cpuProf'] ?? null,
  });
}

function commandLine(): Command {
  return new Command('npm run fleet --')
    .description('Simulated agents in several processes against one gateway, and what they measure of it.')
    .addOption(whole('--agents <n>', 'simulated agents', 1, AGENTS_MAX).default(1_000))
    .addOption(
      whole('--full <n>', 'how many of them are full ones, on the sim driver', 0, FULL_MAX).default(0),
    )
    .addOption(whole('--processes <n>', 'processes of agents', 1, PROCESSES_MAX))
    .addOption(whole('--seed <n>', 'of ids and of what is random', 0, SEED_MAX).default(1))
    .addOption(new Option('--scenario <name...>', 'what is played (default: all)').choices(SCENARIOS))
    .option('--tls', 'the gateway is an authority, and agents show certificates')
    .addOption(whole('--seconds <n>', 'how long the steady state is watched', 1, SECONDS_MAX).default(60))
    .addOption(whole('--heartbeat-seconds <n>', 'seconds between heartbeats', 1, 300).default(5))
    .addOption(whole('--creates <n>', 'instances that are made', 1, CREATES_MAX).default(1_000))
    .addOption(whole('--commands <n>', 'stops and starts that are timed', 1, CREATES_MAX).default(400))
    .option('--json', 'print one JSON object')
    .option('--cpu-prof <folder>', 'write CPU profiles of the gateway there, for a DevTools')
    .allowExcessArguments(false)
    .showHelpAfterError();
}

function whole(flags: string, description: string, least: number, most: number): Option {
  return new Option(flags, `${description} (${least} to ${most})`).argParser((text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Give a whole number, ${least} to ${most}.`);
  });
}
