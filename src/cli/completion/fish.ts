/** Completion for fish 3 and later. */
import type { Completes } from '../leaf.ts';
import { type CommandView, type OptionView, valuedOptions } from './view.ts';

export function fishScript(views: readonly CommandView[]): string {
  return `# Completion of berth for fish, made by \`berth completion fish\`.

function __berth_at
    set -l at ''
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case ${valuedOptions(views).join(' ')}
                set skip 1
            case '-*'
            case '*'
                if contains -- $at/$word ${views.map(({ path }) => path || '/').join(' ')}
                    set at $at/$word
                end
        end
    end
    test "$at" = "$argv[1]"
end

complete -c berth -f
${views.flatMap(commandLines).join('\n')}
`;
}

function commandLines({ path, children, options, args }: CommandView): string[] {
  const when = `complete -c berth -n '__berth_at "${path}"'`;
  return [
    ...children.map(({ name, summary }) => `${when} -a ${name} -d ${quote(summary)}`),
    ...args.flatMap(({ words, completes }) => argumentLines(when, words, completes)),
    ...options.map((option) => `${when} ${optionWords(option)} -d ${quote(option.summary)}`),
  ];
}

function argumentLines(when: string, words: readonly string[], completes: Completes | undefined): string[] {
  if (completes === 'file') return [`${when} -F`];
  if (completes !== undefined) return [`${when} -a ${namesOf(completes)}`];
  return words.length === 0 ? [] : [`${when} -a ${quote(words.join(' '))}`];
}

function optionWords({ flag, short, takesValue, words, completes }: OptionView): string {
  const name = `-l ${flag}${short === undefined ? '' : ` -s ${short}`}`;
  if (!takesValue) return name;
  if (completes === 'file') return `${name} -r -F`;
  if (completes !== undefined) return `${name} -x -a ${namesOf(completes)}`;
  return words.length === 0 ? `${name} -x` : `${name} -x -a ${quote(words.join(' '))}`;
}

function namesOf(kind: Completes): string {
  return `'(berth complete-names ${kind} 2>/dev/null)'`;
}

function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
