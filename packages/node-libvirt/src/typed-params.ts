/**
 * Typed parameters: libvirt's way to pass named values of several types in both directions.
 *
 * On the wire each has one of seven types, and libvirt refuses a value of another type than the name's. Callers give
 * and get plain objects: the type that a name wants is known from libvirt's source (src/typed-params.gen.ts).
 *
 * @see virTypedParameterType, libvirt-common.h
 */
import { LibvirtUsageError } from './errors.ts';
import { TYPED_PARAM_NAMES } from './typed-params.gen.ts';

/** A value as callers see it: 64-bit numbers are always bigint. */
export type TypedValue = number | bigint | boolean | string;

/** Values by name, as replies give them. */
export type TypedParams = Record<string, TypedValue>;

/** A value together with its type, for a name that is newer than this library. */
export interface ExplicitValue {
  type: TypedParamType;
  value: TypedValue;
}

/**
 * Values by name, as callers give them: 64-bit numbers may be number or bigint; a list gives a name several times
 * (migrate_disks); undefined ones are left out.
 */
export type TypedParamsInput = Readonly<
  Record<string, TypedValue | ExplicitValue | readonly (TypedValue | ExplicitValue)[] | undefined>
>;

export type TypedParamType = 'int' | 'uint' | 'llong' | 'ullong' | 'double' | 'boolean' | 'string';

/** One parameter as the codec reads and writes it. */
export interface TypedParam {
  field: string;
  type: TypedParamType;
  value: TypedValue;
}

/** Type names in the order of their tags on the wire, which start at 1. */
export const TYPED_PARAM_TYPES: readonly TypedParamType[] = [
  'int',
  'uint',
  'llong',
  'ullong',
  'double',
  'boolean',
  'string',
];

/** Makes a plain object of a reply's parameters. A name that repeats keeps its last value. */
export function typedParamsToObject(params: readonly TypedParam[]): TypedParams {
  const object: TypedParams = {};
  for (const { field, value } of params) {
    if (field === '__proto__')
      Object.defineProperty(object, field, { value, enumerable: true, configurable: true, writable: true });
    else object[field] = value;
  }
  return object;
}

/**
 * Makes parameters of a plain object, in its order.
 *
 * @throws {LibvirtUsageError} A name that libvirt 11.3 does not have, without a type; or not an object.
 */
export function typedParamsFromObject(values: TypedParamsInput): TypedParam[] {
  if (typeof values !== 'object' || values === null || Array.isArray(values))
    throw new LibvirtUsageError('typed parameters: expected an object of values by name');
  return Object.entries(values).flatMap(([field, value]) =>
    (Array.isArray(value) ? value : [value])
      .filter((one) => one !== undefined)
      .map((one) => typedParam(field, one)),
  );
}

function typedParam(field: string, value: TypedValue | ExplicitValue): TypedParam {
  if (typeof value === 'object' && value !== null) return { field, type: value.type, value: value.value };
  const type = knownTypes().get(field);
  if (type !== undefined) return { field, type, value };
  throw new LibvirtUsageError(
    `typed parameter ${field.slice(0, 80)} is not known to libvirt 11.3: give { type, value } for a newer one`,
  );
}

/** Name to type, made when first needed. */
let types: Map<string, TypedParamType> | undefined;

function knownTypes(): Map<string, TypedParamType> {
  types ??= new Map(
    TYPED_PARAM_TYPES.flatMap((type) =>
      (type in TYPED_PARAM_NAMES ? TYPED_PARAM_NAMES[type as keyof typeof TYPED_PARAM_NAMES] : '')
        .split(' ')
        .map((name) => [name, type] as const),
    ),
  );
  return types;
}
