/**
 * What is to be done with an instance's guest when nobody asks: after a crash, after a boot of the host, when its
 * definition was changed behind our back.
 */
import { strict } from './common.ts';
import { type Static, type TSchema, Type } from './schema.ts';

export const CRASH_ACTIONS = ['restart', 'report'] as const;
export const BOOT_ACTIONS = ['last-state', 'always', 'never'] as const;
export const DRIFT_ACTIONS = ['report', 'restore'] as const;

/**
 * What the guest's watchdog does when it is not fed. `none`: the guest has none. `report`: nothing but an event.
 * `poweroff` ends the guest's process, which counts as a crash: its crash policy says what follows.
 */
export const WATCHDOGS = ['none', 'reset', 'poweroff', 'pause', 'report'] as const;
export type Watchdog = (typeof WATCHDOGS)[number];

/** Starts within an hour: one takes seconds, so more would only hide a guest that can't live. */
const RESTARTS_MAX = 100;

/** What an instance has that says nothing of it, and what one made by an older Berth is read with. */
export const DEFAULT_POLICIES = {
  onCrash: { action: 'restart', limit: 5 },
  onBoot: 'last-state',
  onDrift: 'report',
} as const;

const crashAction = Type.Enum([...CRASH_ACTIONS], {
  default: DEFAULT_POLICIES.onCrash.action,
  description: 'restart it, later and later; or only report it',
});
const crashLimit = Type.Integer({
  minimum: 1,
  maximum: RESTARTS_MAX,
  default: DEFAULT_POLICIES.onCrash.limit,
  description: 'restarts within an hour, beyond which it stays down',
});
const onBoot = Type.Enum([...BOOT_ACTIONS], {
  default: DEFAULT_POLICIES.onBoot,
  description: 'which guests the host starts after its own boot: those that were to run, all, none',
});
const onDrift = Type.Enum([...DRIFT_ACTIONS], {
  default: DEFAULT_POLICIES.onDrift,
  description: 'what is done about a guest that was changed behind our back',
});

export const Policies = strict({
  onCrash: Type.Object(
    { action: crashAction, limit: crashLimit },
    { additionalProperties: false, default: {} },
  ),
  onBoot,
  onDrift,
});
export type Policies = Static<typeof Policies>;

/** A change of some of them: what is left out stays as it is, so none of it has a default. */
export const PoliciesChange = strict({
  onCrash: Type.Optional(strict({ action: optional(crashAction), limit: optional(crashLimit) })),
  onBoot: optional(onBoot),
  onDrift: optional(onDrift),
});
export type PoliciesChange = Static<typeof PoliciesChange>;

export function changedPolicies(policies: Policies, change: PoliciesChange): Policies {
  return { ...policies, ...change, onCrash: { ...policies.onCrash, ...change.onCrash } };
}

/** The same schema without its default. */
function optional<S extends TSchema>(schema: S) {
  const { default: _default, ...rest } = schema as S & { default?: unknown };
  return Type.Optional(rest as unknown as S);
}
