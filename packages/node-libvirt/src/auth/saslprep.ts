/**
 * Brings a user name or password into the form in which SCRAM hashes it, so that it does not matter how it was typed.
 * Pure.
 *
 * Text in ASCII stays as it is. Of RFC 4013 this does the mapping, the normalisation, and the check for control and
 * unassigned characters; it does not check the direction of writing.
 *
 * @see RFC 4013
 */
import { LibvirtUsageError } from '../errors.ts';

/** Spaces that become an ordinary one. @see RFC 3454, C.1.2 */
const SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g;

/** Characters that become nothing. @see RFC 3454, B.1 */
const NOTHING = /\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/g;

/** Control characters, private use, halves of surrogates, unassigned ones. @see RFC 3454, C.2 to C.5 */
const FORBIDDEN = /[\p{Cc}\p{Co}\p{Cs}\p{Cn}]/u;

/** @throws {LibvirtUsageError} It holds a forbidden character; which one is not said, since it may be a password. */
export function saslprep(text: string, what: 'username' | 'password'): string {
  const prepared = text.replaceAll(SPACES, ' ').replaceAll(NOTHING, '').normalize('NFKC');
  if (prepared === '' || FORBIDDEN.test(prepared))
    throw new LibvirtUsageError(`auth: ${what} holds a character that SASL does not allow`);
  return prepared;
}
