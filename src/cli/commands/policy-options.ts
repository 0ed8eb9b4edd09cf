/** The options that say an instance's policies, for create and for configure. */
import type { PoliciesChange } from '../../model/policy.ts';
import type { Given, OptionSpec } from '../leaf.ts';
import { BOOT_ACTIONS, CRASH_ACTIONS, DRIFT_ACTIONS } from '../words.ts';

/** Without their defaults: those are a new instance's, and no change has any. */
export const POLICY_OPTIONS = [
  {
    flag: 'on-crash',
    value: 'action',
    choices: CRASH_ACTIONS,
    summary: 'after a crash: restart it, later and later; or only report it',
  },
  {
    flag: 'restart-limit',
    value: 'count',
    integer: true,
    summary: 'restarts within an hour, beyond which it stays down',
  },
  {
    flag: 'on-boot',
    value: 'action',
    choices: BOOT_ACTIONS,
    summary: 'after a boot of the host: start it if it was to run, always, or never',
  },
  {
    flag: 'on-drift',
    value: 'action',
    choices: DRIFT_ACTIONS,
    summary: 'after a change behind our back: report it, or restore what was asked for',
  },
] as const satisfies readonly OptionSpec[];

/** What was given; null for nothing. */
export function policiesOf(given: Given): PoliciesChange | null {
  const action = CRASH_ACTIONS.find((word) => word === given.text('on-crash'));
  const limit = given.integer('restart-limit');
  const onBoot = BOOT_ACTIONS.find((word) => word === given.text('on-boot'));
  const onDrift = DRIFT_ACTIONS.find((word) => word === given.text('on-drift'));
  const onCrash = { ...(action && { action }), ...(limit !== undefined && { limit }) };
  const change = {
    ...(Object.keys(onCrash).length > 0 && { onCrash }),
    ...(onBoot && { onBoot }),
    ...(onDrift && { onDrift }),
  };
  return Object.keys(change).length === 0 ? null : change;
}
