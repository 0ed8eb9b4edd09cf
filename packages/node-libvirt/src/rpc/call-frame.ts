/**
 * From the name of a procedure and its arguments to the frame that calls it.
 *
 * Promises: whatever cannot be sent is refused with a LibvirtUsageError that names the call and the argument:
 * "domainGetInfo: dom.uuid: not a UUID".
 */
import { LibvirtUsageError } from '../errors.ts';
import { type Procedure, procedureNamed } from '../protocol/procedures.ts';
import type { XdrWriter } from '../xdr/writer.ts';
import { encodeFrame, MessageType } from './framing.ts';

/** Whether a call opens a stream. */
export type CallKind = 'plain' | 'stream';

/** @throws {LibvirtUsageError} There is no such procedure, or it is of the other kind. */
export function procedureOf(name: string, kind: CallKind): Procedure {
  const procedure = procedureNamed(name);
  if (kind === 'plain' && procedure.opensStream)
    throw new LibvirtUsageError(`${name} opens a stream: use openStream`);
  if (kind === 'stream' && !procedure.opensStream)
    throw new LibvirtUsageError(`${name} opens no stream: use call`);
  return procedure;
}

/** @throws {LibvirtUsageError} The arguments cannot be sent. */
export function encodeCall(procedure: Procedure, serial: number, args: unknown): Buffer {
  const { program, number } = procedure;
  const header = { program, procedure: number, type: MessageType.call, serial, status: 0 };
  return encodeFrame(header, (writer) => encodeArguments(procedure, writer, args));
}

/** Throws what the call itself will throw: to be asked before a socket is opened for it. */
export function checkCall(name: string, args: unknown, kind: CallKind): void {
  encodeCall(procedureOf(name, kind), 0, args);
}

function encodeArguments(procedure: Procedure, writer: XdrWriter, args: unknown): void {
  try {
    procedure.args?.encode(writer, args);
  } catch (error) {
    if (!(error instanceof LibvirtUsageError)) throw error;
    const options = error.cause === undefined ? undefined : { cause: error.cause };
    throw new LibvirtUsageError(`${procedure.name}: ${error.message}`, options);
  }
}
