/** `berth instance configure`: policies of an instance, and whose it is. */
import { usageError } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { nameArgument, nameOf } from './nouns.ts';
import { POLICY_OPTIONS, policiesOf } from './policy-options.ts';

export const configureLeaf: Leaf = {
  name: 'configure',
  summary: 'Change what is done with an instance when nobody asks; its guest runs on',
  args: [nameArgument('instance')],
  options: [
    ...POLICY_OPTIONS,
    {
      flag: 'take-back',
      summary: 'take it back after the scheduler has disowned it; only where it runs nowhere else',
    },
    ...OPERATION_OPTIONS,
  ],
  details: [
    'Examples:',
    '  berth instance configure web1 --on-crash restart --restart-limit 3',
    '  berth instance configure web1 --on-boot never --on-drift restore',
  ].join('\n'),
  doing: (given) => `configure instance ${nameOf(given)}`,
  async run(session, given) {
    const policies = policiesOf(given);
    if (policies === null && !given.on('take-back')) {
      throw usageError('there is nothing to change', {
        hint: `Give at least one of ${POLICY_OPTIONS.map(({ flag }) => `--${flag}`).join(', ')}, --take-back.`,
      });
    }
    const params = {
      id: nameOf(given),
      ...(policies === null ? {} : { policies }),
      ...(given.on('take-back') ? { ownership: 'take-back' as const } : {}),
    };
    const done = `Configured instance ${params.id}`;
    return operate(session, given, { method: 'instance.configure', params, done });
  },
};
