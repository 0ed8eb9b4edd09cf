/**
 * The command tree as the three shells need it: for each command its words, options and arguments.
 */
import { type Completes, isGroup, type Leaf, type Node, type OptionSpec } from '../leaf.ts';
import { GLOBAL_OPTIONS } from '../program.ts';

/** What may stand at a place: one of these words, or a name of this kind, or a file. */
export interface Offer {
  words: readonly string[];
  completes: Completes | undefined;
}

export interface OptionView extends Offer {
  /** As typed: `--mode`, `-f`. */
  names: readonly string[];
  flag: string;
  short: string | undefined;
  summary: string;
  takesValue: boolean;
}

export interface CommandView {
  /** `/instance/stop`; the root is empty. */
  path: string;
  summary: string;
  children: readonly { name: string; summary: string }[];
  options: readonly OptionView[];
  args: readonly Offer[];
}

const HELP: OptionSpec = { flag: 'help', short: 'h', summary: 'show help' };
const VERSION: OptionSpec = { flag: 'version', summary: 'print the version' };

/** The root, then every command that help shows. */
export function viewOf(tree: readonly Node[]): CommandView[] {
  const shown = tree.filter((node) => isGroup(node) || !node.hidden);
  const root = commandView('', '', shown, [VERSION]);
  return [root, ...shown.flatMap(nodeViews)];
}

/** Options, as typed, that are followed by a value in any command. */
export function valuedOptions(views: readonly CommandView[]): string[] {
  const valued = views.flatMap(({ options }) => options.filter(({ takesValue }) => takesValue));
  return [...new Set(valued.flatMap(({ names }) => names))];
}

function nodeViews(node: Node): CommandView[] {
  const path = `/${node.name}`;
  if (!isGroup(node)) return [leafView(path, node)];
  const group = commandView(path, node.summary, node.commands, []);
  return [group, ...node.commands.map((leaf) => leafView(`${path}/${leaf.name}`, leaf))];
}

function leafView(path: string, leaf: Leaf): CommandView {
  const args = (leaf.args ?? []).map(({ choices, completes }) => ({ words: choices ?? [], completes }));
  return { ...commandView(path, leaf.summary, [], leaf.options ?? []), args };
}

function commandView(
  path: string,
  summary: string,
  nodes: readonly Node[],
  options: readonly OptionSpec[],
): CommandView {
  return {
    path,
    summary,
    children: nodes.map(({ name, summary: of }) => ({ name, summary: of })),
    options: [...options, ...GLOBAL_OPTIONS, HELP].map(optionView),
    args: [],
  };
}

function optionView({ flag, short, summary, value, choices, completes }: OptionSpec): OptionView {
  return {
    names: [`--${flag}`, ...(short === undefined ? [] : [`-${short}`])],
    flag,
    short,
    summary,
    takesValue: value !== undefined,
    words: choices ?? [],
    completes,
  };
}
