/**
 * The few schema builders that Berth uses, by the names that TypeBox gives them.
 *
 * Everything takes them from here: a bundle then holds these and not all of TypeBox, which is 13 MiB of
 * resident memory in every process.
 */
import {
  Array as array,
  Boolean as boolean,
  Enum,
  Integer,
  Literal,
  Null,
  Number as number,
  Optional,
  Object as object,
  Record as record,
  String as string,
  Union,
  Unknown,
} from 'typebox';

export type { Static, TObject, TOptional, TProperties, TSchema } from 'typebox';

export const Type = {
  Array: array,
  Boolean: boolean,
  Enum,
  Integer,
  Literal,
  Null,
  Number: number,
  Object: object,
  Optional,
  Record: record,
  String: string,
  Union,
  Unknown,
};
