/**
 * The command line parser and the help: commander, filled from the declarations of src/cli/commands.
 *
 * Parsing only chooses; nothing runs before the whole line is understood.
 */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { VERSION } from '../model/version.ts';
import { DEFAULT_SOCKET_PATH } from './client.ts';
import {
  type ArgumentSpec,
  Given,
  type GivenValue,
  type Head,
  isGroup,
  isLeaf,
  type Leaf,
  type OptionSpec,
} from './leaf.ts';

export interface Globals {
  json: boolean;
  socket: string | undefined;
}

export interface Choice {
  leaf: Leaf;
  given: Given;
  globals: Globals;
}

/** Options that stand before or after every command. */
export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { flag: 'json', summary: 'print exactly one JSON document (events: one a line)' },
  {
    flag: 'socket',
    value: 'path',
    completes: 'file',
    summary: `socket of the agent (default: BERTH_SOCKET, or ${DEFAULT_SOCKET_PATH})`,
  },
];

const EXIT_CODES_HELP = `
Exit codes: 0 done, 1 failed, 2 usage, 3 agent not reachable, 130 interrupted while waiting.`;

export interface Writers {
  out: (text: string) => void;
  err: (text: string) => void;
}

export function buildProgram(
  tree: readonly Head[],
  write: Writers,
  choose: (choice: Choice) => void,
): Command {
  const program = new Command('berth')
    .description(
      'The command line of Berth, the node agent: looks at this host and its instances, and changes them.',
    )
    .version(`berth ${VERSION}`, '--version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, subcommandTerm: (command) => command.name() })
    .configureOutput({ writeOut: write.out, writeErr: write.err, outputError: () => undefined })
    .addHelpText('after', EXIT_CODES_HELP);
  for (const option of GLOBAL_OPTIONS) program.addOption(optionOf(option));
  for (const node of tree) {
    const command = program.command(node.name, node.hidden ? { hidden: true } : {}).description(node.summary);
    if (isLeaf(node)) fillLeaf(command, node, choose);
    else if (isGroup(node)) fillGroup(command, node.commands, choose);
  }
  return program;
}

function fillGroup(group: Command, leaves: readonly Leaf[], choose: (choice: Choice) => void): void {
  for (const leaf of leaves) fillLeaf(group.command(leaf.name).description(leaf.summary), leaf, choose);
}

function fillLeaf(command: Command, leaf: Leaf, choose: (choice: Choice) => void): void {
  for (const argument of leaf.args ?? []) command.addArgument(argumentOf(argument));
  for (const option of leaf.options ?? []) command.addOption(optionOf(option));
  if (leaf.details !== undefined) command.addHelpText('after', `\n${leaf.details}`);
  command.action(() => {
    const globals = command.optsWithGlobals();
    choose({
      leaf,
      given: new Given(new Map([...argumentsGiven(leaf, command), ...optionsGiven(leaf, command)])),
      globals: { json: globals['json'] === true, socket: stringOr(globals['socket']) },
    });
  });
}

function argumentOf(spec: ArgumentSpec): Argument {
  const name = spec.repeatable ? `${spec.name}...` : spec.name;
  const argument = new Argument(spec.optional ? `[${name}]` : `<${name}>`, spec.summary);
  return spec.choices ? argument.choices(spec.choices) : argument;
}

function optionOf(spec: OptionSpec): Option {
  const value = spec.value === undefined ? '' : ` <${spec.value}>`;
  const option = new Option(`${spec.short ? `-${spec.short}, ` : ''}--${spec.flag}${value}`, spec.summary);
  if (spec.choices) return option.choices(spec.choices);
  if (spec.integer) return option.argParser(parseInteger);
  if (spec.repeatable) {
    return option.argParser<string[]>((text, before) => [...(before ?? []), text]);
  }
  return option;
}

function parseInteger(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError('It is a whole number, such as 2.');
}

function argumentsGiven(leaf: Leaf, command: Command): [string, GivenValue][] {
  return (leaf.args ?? []).flatMap(({ name }, at): [string, GivenValue][] => {
    const words: unknown = command.processedArgs[at];
    return typeof words === 'string' || Array.isArray(words) ? [[name, words]] : [];
  });
}

function optionsGiven(leaf: Leaf, command: Command): [string, GivenValue][] {
  return (leaf.options ?? []).flatMap(({ flag }): [string, GivenValue][] => {
    const option = command.options.find(({ long }) => long === `--${flag}`);
    if (option === undefined || command.getOptionValueSource(option.attributeName()) !== 'cli') return [];
    const value = command.getOptionValue(option.attributeName()) as GivenValue;
    if (option.negate) return value === false ? [[flag, true]] : [];
    return value === false ? [] : [[flag, value]];
  });
}

function stringOr(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
