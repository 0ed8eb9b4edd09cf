/**
 * What bash and zsh share: `case` arms that set `offers` (what to offer) or `kind` (whose names, or `file`).
 *
 * Everything put into a script comes from declarations of this program: letters, digits and dashes.
 */
import type { CommandView, Offer } from './view.ts';

/** Arms on "$at $previous": what may follow an option. */
export function valueArms(views: readonly CommandView[]): string {
  return views
    .flatMap(({ path, options }) =>
      options
        .filter(({ takesValue }) => takesValue)
        .map((option) => {
          const patterns = option.names.map((name) => `"${path} ${name}"`).join('|');
          return `    ${patterns}) ${assignment(option)}; offered=1 ;;`;
        }),
    )
    .join('\n');
}

/** Arms on "$at $count": what may stand as the next word. */
export function wordArms(views: readonly CommandView[]): string {
  return views
    .flatMap(({ path, children, args }) => [
      ...(children.length === 0
        ? []
        : [`    "${path} "*) offers="${children.map(({ name }) => name).join(' ')}" ;;`]),
      ...args.map((offer, at) => `    "${path} ${at}") ${assignment(offer)} ;;`),
    ])
    .join('\n');
}

/** Arms on "$at": options of the command. */
export function optionArms(views: readonly CommandView[]): string {
  return views
    .map(
      ({ path, options }) => `    "${path}") offers="${options.flatMap(({ names }) => names).join(' ')}" ;;`,
    )
    .join('\n');
}

/** Paths of all commands, as a pattern. */
export function pathPattern(views: readonly CommandView[]): string {
  return views
    .filter(({ path }) => path !== '')
    .map(({ path }) => path)
    .join('|');
}

function assignment({ words, completes }: Offer): string {
  return completes === undefined ? `offers="${words.join(' ')}"` : `kind=${completes}`;
}
