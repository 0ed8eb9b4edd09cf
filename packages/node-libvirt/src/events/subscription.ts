/**
 * What one caller wants to hear, checked, and in the form in which it is registered with the daemon.
 */
import { LibvirtUsageError } from '../errors.ts';
import type { ProcedureName } from '../protocol/procedures.ts';
import type { Messages } from '../protocol/types.gen.ts';
import { uuidFromBytes, uuidToBytes } from '../uuid.ts';
import { shown } from '../xdr/argument-error.ts';
import {
  type EventFamily,
  type EventThings,
  type Family,
  type Feature,
  familyNamed,
  IDENTITIES,
} from './families.ts';

export interface Subscription {
  family: EventFamily;
  kind: string;
  /** What the caller gave, copied: the thing's names, and further arguments. */
  filter: Readonly<Record<string, unknown>>;
  /** Equal for those who want the same: they share one registration, since the daemon refuses a second one. */
  key: string;
  /** The message that carries the events. */
  message: keyof Messages;
  feature: Feature;
  /** The libvirt that brought the kind, where that is later than the feature. */
  since: string | undefined;
  register: ProcedureName;
  /** Arguments of `register`. */
  args: unknown;
  deregister: ProcedureName;
}

/** Options that have nothing to do with what is heard. */
const OTHER_OPTIONS = ['timeoutMs', 'signal', 'bufferMax'];

/**
 * @param options The filter, and options that have no effect here.
 * @throws {LibvirtUsageError} No such family, kind or filter, or a thing that is not named rightly.
 */
export function subscriptionOf(familyName: EventFamily, kind: string, options: object): Subscription {
  const family = familyNamed(familyName);
  const isKnown = typeof kind === 'string' && Object.hasOwn(family.kinds, kind);
  const entry = isKnown ? family.kinds[kind] : undefined;
  if (entry === undefined) throw new LibvirtUsageError(`there are no events ${shown(kind)} of ${familyName}`);
  const [eventID, message, since] = entry;
  const filter = filterOf(familyName, family, options);
  const thing = family.thing === null ? undefined : filter[family.thing];
  const identity = Object.values(thing ?? {})[0];
  const more: Record<string, unknown> = eventID === null ? {} : { eventID };
  for (const [name, value] of Object.entries(family.more ?? {})) more[name] = filter[name] ?? value;
  return {
    family: familyName,
    kind,
    filter,
    key: JSON.stringify([message, identity, ...Object.values(more)].map(distinct)),
    message,
    feature: family.feature,
    since,
    register: family.register,
    args: family.thing === null ? undefined : { ...more, [family.wire]: thing ?? null },
    deregister: family.deregister,
  };
}

function filterOf(familyName: string, family: Family, options: object): Record<string, unknown> {
  const filter: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || OTHER_OPTIONS.includes(name)) continue;
    if (name === family.thing) filter[name] = namesOf(name, value);
    else if (Object.hasOwn(family.more ?? {}, name)) filter[name] = value;
    else throw new LibvirtUsageError(`events of ${familyName} have no option ${name}`);
  }
  return filter;
}

/** Copies what names a thing: the caller's object may change. */
function namesOf(thing: keyof EventThings, given: unknown): Record<string, unknown> {
  if (typeof given !== 'object' || given === null)
    throw new LibvirtUsageError(
      `${thing}: expected an object, got ${given === null ? 'null' : typeof given}`,
    );
  const fields = given as Record<string, unknown>;
  const names = Object.fromEntries(IDENTITIES[thing].map((name) => [name, fields[name]]));
  return 'uuid' in names ? { ...names, uuid: uuidFromBytes(uuidToBytes(names.uuid)) } : names;
}

/** Text of a value that another value does not have. */
function distinct(value: unknown): string {
  return `${typeof value} ${typeof value === 'string' ? value : shown(value)}`;
}
