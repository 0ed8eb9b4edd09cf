/**
 * Looks procedures and messages up by name and by number, and gives their codecs.
 */
import { LibvirtUsageError } from '../errors.ts';
import { shown } from '../xdr/argument-error.ts';
import { type Codec, codecOf } from '../xdr/codec.ts';
import { MESSAGES, PROCEDURES, PROGRAMS } from './schema.gen.ts';
import type { Procedures } from './types.gen.ts';

export type ProcedureName = keyof Procedures;
export type ArgsOf<P extends ProcedureName> = Procedures[P]['args'];
export type ReplyOf<P extends ProcedureName> = Procedures[P]['reply'];

/** One call that the daemon understands. */
export interface Procedure {
  name: string;
  /** Program number, for example 0x20008086. */
  program: number;
  number: number;
  args: Codec | null;
  reply: Codec | null;
  opensStream: boolean;
  /** The libvirt that brought it, for example '11.2.0', where libvirt says. */
  since: string | undefined;
}

/** One message that the daemon sends unasked. */
export interface Message {
  name: string;
  body: Codec;
}

const procedures = new Map<string, Procedure>();

/** @throws {LibvirtUsageError} The protocol has no such procedure. */
export function procedureNamed(name: string): Procedure {
  const known = procedures.get(name);
  if (known !== undefined) return known;
  const isKnown = typeof name === 'string' && Object.hasOwn(PROCEDURES, name);
  const description = isKnown ? PROCEDURES[name] : undefined;
  if (description === undefined) throw new LibvirtUsageError(`libvirt has no procedure ${shown(name)}`);
  const made = parseProcedure(name, description);
  procedures.set(name, made);
  return made;
}

/** The message of a program with a number, or undefined when this library does not know it. */
export function messageNumbered(program: number, number: number): Message | undefined {
  const key = `${programName(program)} ${number}`;
  const entry = Object.hasOwn(MESSAGES, key) ? MESSAGES[key] : undefined;
  return entry === undefined ? undefined : { name: entry[0], body: codecOf(`${entry[1]}_msg`) };
}

function parseProcedure(name: string, description: string): Procedure {
  const [program = '', base = '', number = '', has = '', since] = description.split(' ');
  return {
    name,
    program: PROGRAMS[program as keyof typeof PROGRAMS],
    number: Number(number),
    args: has.includes('a') ? codecOf(`${base}_args`) : null,
    reply: has.includes('r') ? codecOf(`${base}_ret`) : null,
    opensStream: /[<>]/.test(has),
    since,
  };
}

function programName(program: number): string {
  return program === PROGRAMS.remote ? 'remote' : program === PROGRAMS.qemu ? 'qemu' : 'unknown';
}
