/**
 * Typed parameters: libvirt's way to pass named values of several types in both directions.
 *
 * On the wire each has one of seven types. Replies are given to callers as plain objects; arguments are made from
 * plain objects together with the type of each field, since libvirt refuses a value of another type.
 *
 * @see virTypedParameterType, libvirt-common.h
 */
import { LibvirtUsageError } from './errors.ts';

/** A value as callers see it. 64-bit numbers are `number` when that is exact, `bigint` otherwise. */
export type TypedValue = number | bigint | boolean | string;

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
export function typedParamsToObject(params: readonly TypedParam[]): Record<string, TypedValue> {
  const object: Record<string, TypedValue> = {};
  for (const { field, value } of params) {
    if (field === '__proto__') Object.defineProperty(object, field, { value, enumerable: true });
    else object[field] = value;
  }
  return object;
}

/**
 * Makes parameters of a plain object.
 *
 * @param values Values by name; undefined ones are left out.
 * @param types Type of each name.
 * @throws {LibvirtUsageError} A name has no type.
 */
export function typedParamsFromObject(
  values: Readonly<Record<string, TypedValue | undefined>>,
  types: Readonly<Record<string, TypedParamType>>,
): TypedParam[] {
  return Object.entries(values).flatMap(([field, value]) => {
    if (value === undefined) return [];
    const type = Object.hasOwn(types, field) ? types[field] : undefined;
    if (type === undefined) throw new LibvirtUsageError(`typed parameter ${field} is not known here`);
    return [{ field, type, value }];
  });
}

/** Gives the number when it is exact, else the bigint itself. */
export function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
