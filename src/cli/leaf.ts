/**
 * How a command is declared. From these declarations come the parser, the help and the shell completion.
 */
import type { ExitCode } from './failure.ts';
import type { Session } from './session.ts';

/** What a shell offers for a word. */
export type Completes = 'instance' | 'image' | 'volume' | 'share' | 'network' | 'pool' | 'operation' | 'file';

export interface ArgumentSpec {
  name: string;
  summary: string;
  optional?: true;
  /** Any number of words; the last argument alone. */
  repeatable?: true;
  choices?: readonly string[];
  completes?: Completes;
}

export interface OptionSpec {
  /** Long name without its dashes. `no-x` is the negation of `x` and is given as `no-x`. */
  flag: string;
  short?: string;
  summary: string;
  /** Placeholder of its value; an option without one is a switch. */
  value?: string;
  integer?: true;
  repeatable?: true;
  choices?: readonly string[];
  completes?: Completes;
}

/** What help says of a command on one line. */
export interface Head {
  name: string;
  summary: string;
  /** Neither in help nor in completion. */
  hidden?: true;
}

export interface LeafBody {
  args?: readonly ArgumentSpec[];
  options?: readonly OptionSpec[];
  /** More help, below the options. */
  details?: string;
  /** What it does, for messages, as in "start instance demo". */
  doing(given: Given): string;
  run(session: Session, given: Given): Promise<ExitCode>;
}

export interface Leaf extends Head, LeafBody {}

export interface Group extends Head {
  commands: readonly Leaf[];
}

export type Node = Leaf | Group;

export function isGroup(node: Head): node is Group {
  return 'commands' in node;
}

export function isLeaf(node: Head): node is Leaf {
  return 'run' in node;
}

export type GivenValue = string | number | boolean | readonly string[];

/** The words of one command line, by the names of their declarations. */
export class Given {
  readonly #values: ReadonlyMap<string, GivenValue>;

  constructor(values: ReadonlyMap<string, GivenValue>) {
    this.#values = values;
  }

  /** A required argument. */
  argument(name: string): string {
    const value = this.#values.get(name);
    if (typeof value !== 'string') throw new Error(`argument ${name} is not declared as required`);
    return value;
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return typeof value === 'string' ? value : undefined;
  }

  integer(name: string): number | undefined {
    const value = this.#values.get(name);
    return typeof value === 'number' ? value : undefined;
  }

  texts(name: string): readonly string[] {
    const value = this.#values.get(name);
    return Array.isArray(value) ? value : [];
  }

  on(name: string): boolean {
    return this.#values.get(name) === true;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }
}
