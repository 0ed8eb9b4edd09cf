/**
 * Turns libvirt's API description into the source of src/constants.gen.ts.
 *
 * Each C enum type becomes one object under its own name, with the C names as keys, so that a number can be looked
 * up by name and a name by number.
 */
import type { ApiConstant, ApiDescription } from './api-description.ts';

export function constantsSource({ enums }: ApiDescription, heading: string): string {
  const groups = [...enums].map(
    ([type, members]) => `export const ${type} = {\n${members.map(member).join('\n')}\n} as const;`,
  );
  return `${heading}\n${groups.join('\n\n')}\n`;
}

/** libvirt marks the names of parameters with @, which in comments here begins a tag. */
function commentOf(meaning: string): string {
  return meaning.replaceAll('*/', '* /').replace(/@(\w)/g, '$1');
}

function member({ name, value, meaning }: ApiConstant): string {
  const comment = meaning === '' ? '' : `  /** ${commentOf(meaning)} */\n`;
  return `${comment}  ${name}: ${value},`;
}
