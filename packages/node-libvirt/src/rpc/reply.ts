/**
 * Turns a reply into the result of its call.
 *
 * A short one is decoded at once. A long one is decoded in slices, so that the event loop is held for a few milliseconds
 * at most: the list of 10,000 domains and the statistics of 1,000 take longer than that.
 */
import { errorFromReply, LibvirtTransportError } from '../errors.ts';
import type { Procedure } from '../protocol/procedures.ts';
import type { Codec } from '../xdr/codec.ts';
import { type TypedParamsShape, XdrError, XdrReader } from '../xdr/reader.ts';
import { Pacer } from '../xdr/slices.ts';
import { decodeErrorReply } from './error-reply.ts';
import { type Frame, MessageStatus, MessageType } from './framing.ts';

export interface ReplyOptions {
  typedParams: TypedParamsShape;
  /** Whether somebody still waits for the result. */
  isWanted: () => boolean;
}

/** Bodies over this many bytes are decoded in slices. So many take half a millisecond, or 3 before code is compiled. */
const SLICED_BYTES = 65_536;

/**
 * @returns The result, or a promise of it.
 * @throws {LibvirtError} The daemon's refusal. @throws {XdrError} Not the reply that this procedure has.
 * @throws {LibvirtTransportError} descriptors. @throws {WorkGivenUp} Nobody waits for it any more.
 */
export function decodeReply(procedure: Procedure, frame: Frame, options: ReplyOptions): unknown {
  checkReply(procedure, frame);
  const reader = new XdrReader(frame.body, options.typedParams);
  if (frame.status === MessageStatus.error)
    throw errorFromReply(decodeErrorReply(reader), procedure.name, procedure.since);
  if (frame.type === MessageType.replyWithDescriptors) throw descriptorsError(procedure.name);
  if (procedure.reply?.decodeInSlices && frame.body.length > SLICED_BYTES)
    return decodeInSlices(procedure.name, procedure.reply.decodeInSlices, reader, options.isWanted);
  const result = procedure.reply?.decode(reader);
  checkEnd(procedure.name, reader);
  return result;
}

async function decodeInSlices(
  procedure: string,
  decode: NonNullable<Codec['decodeInSlices']>,
  reader: XdrReader,
  isWanted: () => boolean,
): Promise<unknown> {
  const pacer = new Pacer(isWanted);
  await pacer.pause();
  const result = await decode(reader, pacer);
  checkEnd(procedure, reader);
  return result;
}

function checkReply(procedure: Procedure, { program, procedure: number, status }: Frame): void {
  if (program !== procedure.program || number !== procedure.number)
    throw new XdrError(`${procedure.name} was answered with a reply to procedure ${number} of ${program}`);
  if (status !== MessageStatus.ok && status !== MessageStatus.error)
    throw new XdrError(`the reply to ${procedure.name} has the status ${status}`);
}

function checkEnd(procedure: string, reader: XdrReader): void {
  if (reader.left > 0) throw new XdrError(`the reply to ${procedure} has ${reader.left} bytes too many`);
}

function descriptorsError(procedure: string): Error {
  return new LibvirtTransportError(
    'descriptors',
    `${procedure} answers with file descriptors, which Node.js cannot receive`,
  );
}
