/** Decodes the error that stands in the body of a failed reply or stream. @see virNetMessageError, virnetprotocol.x */
import type { ErrorReply } from '../errors.ts';
import type { XdrReader } from '../xdr/reader.ts';

/** @see VIR_NET_MESSAGE_STRING_MAX */
const STRING_MAX_BYTES = 4_194_304;

export function decodeErrorReply(reader: XdrReader): ErrorReply {
  const code = reader.int();
  const domain = reader.int();
  const message = reader.present() ? reader.string(STRING_MAX_BYTES) : null;
  const level = reader.int();
  return { code, domain, level, message };
}
