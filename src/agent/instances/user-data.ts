/**
 * What a guest is told to do at its first boot: known by its first line, as cloud-init and cloudbase-init know it.
 *
 * A kind that neither of them knows is dropped by them, silently, on a guest that then lacks what it was to have: it is
 * refused here, with the list. Cloud-config is read strictly (cloud-config.ts). What is a program, a template or an
 * archive of the guest's own is passed on as it is.
 *
 * Careless input, and what it gets (always INVALID_ARGUMENT, with line and column where there is a place):
 *   empty lines or a byte order mark before the first line → that the first line has to say what it is
 *   no kind, or a misspelt one                             → the kinds
 *   more bytes than USER_DATA_BYTES_MAX                  → how many, and how many there may be
 *   base64 that is none; gzip that is none or unpacks too large → said so
 *   base64 that is neither gzip nor UTF-8                  → said so
 *
 * No message repeats any of it: it may hold secrets.
 */
import { gunzipSync } from 'node:zlib';
import { bytesOfBase64 } from '../../model/base64.ts';
import { AgentError } from '../../model/errors.ts';
import { USER_DATA_BYTES_MAX, type UserDataEncoding } from '../../model/instance.ts';
import { findYamlFault } from './cloud-config.ts';

/** What gzip may unpack to: text packs to a tenth, rarely to a twentieth. */
const UNPACKED_BYTES_LIMIT = 1024 * 1024;
/** How far cloud-init looks for the header that makes a text a MIME message, characters. @see cloudinit/user_data.py */
const MIME_HEAD = 4096;

interface Kind {
  /** How the list in the refusal calls it. */
  name: string;
  begins: RegExp;
  /** Reads it; by default it is passed on. */
  check?: (text: string, what: string) => void;
}

/** The first that fits counts. @see cloudinit/handlers/__init__.py; cloudbaseinit/plugins/common/userdatautils.py */
const KINDS: readonly Kind[] = [
  { name: '#cloud-config', begins: /^#cloud-config[ \t]*\r?(\n|$)/, check: yaml('mapping') },
  { name: '#cloud-config-archive', begins: /^#cloud-config-archive[ \t]*\r?(\n|$)/, check: yaml('list') },
  { name: '#cloud-config-jsonp', begins: /^#cloud-config-jsonp\s/ },
  { name: '#! (a script)', begins: /^#!/ },
  { name: '#include', begins: /^#include(-once)?\s/ },
  { name: '#cloud-boothook', begins: /^#cloud-boothook\s/ },
  { name: '#part-handler', begins: /^#part-handler\s/ },
  { name: '## template: jinja', begins: /^##[ \t]*template:[ \t]*jinja\s/i },
  { name: 'a MIME multipart message', begins: /^(content-type|mime-version):/i, check: checkMime },
  { name: '#ps1, #ps1_sysnative, #ps1_x86', begins: /^#ps1(_sysnative|_x86)?\s/ },
  { name: 'rem cmd', begins: /^rem[ \t]+cmd\s/i },
  { name: '<powershell>, <script>', begins: /^<(powershell|script)>/i },
  { name: 'a certificate (PEM)', begins: /^-----BEGIN CERTIFICATE-----/ },
  { name: 'Ignition (JSON)', begins: /^\{/, check: checkIgnition },
];

/** What is wrong, by whose words. */
export interface GivenData {
  /** Names it in messages, as in `spec.userData`. */
  what: string;
  text: string;
  /** @default 'text' */
  encoding?: UserDataEncoding;
}

/** @throws {AgentError} INVALID_ARGUMENT */
export function assertUserData({ what, text, encoding = 'text' }: GivenData): void {
  const bytes = encoding === 'base64' ? decodeBase64(what, text) : Buffer.from(text);
  if (bytes.length > USER_DATA_BYTES_MAX) throw tooLarge(what, bytes.length, USER_DATA_BYTES_MAX);
  if (bytes.length > 0) assertKind(what, encoding === 'base64' ? unpacked(what, bytes) : text);
}

/** Bytes that a guest is given. */
export function userDataBytes(text: string | undefined, encoding: UserDataEncoding = 'text'): number {
  return Buffer.byteLength(text ?? '', encoding === 'base64' ? 'base64' : 'utf8');
}

function assertKind(what: string, text: string): void {
  const kind = KINDS.find(({ begins }) => begins.test(text));
  if (kind !== undefined) {
    kind.check?.(text, what);
    return;
  }
  throw refused(
    what,
    isLate(text) ? 'its kind stands later than on its first line' : 'no guest knows its kind',
    {
      hint: `Its first line, without anything before it, is one of: ${KINDS.map(({ name }) => name).join('; ')}.`,
      place: { line: 1, column: 1 },
    },
  );
}

/** Whether nothing but a byte order mark or white space is in the way. */
function isLate(text: string): boolean {
  const rest = text.replace(/^[\ufeff\s]+/, '');
  return rest !== text && KINDS.some(({ begins }) => begins.test(rest));
}

function yaml(top: 'mapping' | 'list') {
  return (text: string, what: string): void => {
    const fault = findYamlFault(text, top);
    if (fault === null) return;
    const { reason, ...place } = fault;
    throw refused(what, reason, { place });
  };
}

/** Without this header cloud-init takes the message for a text that it does not know. */
function checkMime(text: string, what: string): void {
  if (/^mime-version:/im.test(text.slice(0, MIME_HEAD))) return;
  throw refused(what, `a MIME message has no MIME-Version in its first ${MIME_HEAD} characters`);
}

function checkIgnition(text: string, what: string): void {
  if (isIgnition(text)) return;
  throw refused(what, 'it begins as JSON does, and is no Ignition configuration', {
    hint: 'Cloud-config begins with the line #cloud-config, also where the rest is JSON.',
  });
}

function isIgnition(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && Object.hasOwn(value, 'ignition');
  } catch {
    return false; // no JSON is no Ignition; what the parser says would repeat some of the text
  }
}

function decodeBase64(what: string, text: string): Buffer {
  const bytes = bytesOfBase64(text);
  if (bytes === null) throw refused(what, 'it is no base64', { hint: 'Without line breaks: base64 -w0.' });
  return bytes;
}

function unpacked(what: string, bytes: Buffer): string {
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const plain = isGzip ? gunzip(what, bytes) : bytes;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plain);
  } catch (cause) {
    throw refused(what, 'it is neither gzip nor UTF-8', { cause });
  }
}

function gunzip(what: string, bytes: Buffer): Buffer {
  try {
    return gunzipSync(bytes, { maxOutputLength: UNPACKED_BYTES_LIMIT });
  } catch (cause) {
    const isLong = (cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
    const limit = `it unpacks to more than ${UNPACKED_BYTES_LIMIT} bytes`;
    throw refused(what, isLong ? limit : 'it begins as gzip does, and is none', { cause });
  }
}

function tooLarge(what: string, bytes: number, limit: number): AgentError {
  return refused(what, `it has ${bytes} bytes, and may have ${limit}`, {
    hint: 'Pack it with gzip, or have the guest fetch it: #include.',
  });
}

function refused(
  what: string,
  reason: string,
  more: { hint?: string; cause?: unknown; place?: { line: number; column: number } } = {},
): AgentError {
  const { place, ...options } = more;
  const where = place === undefined ? '' : ` at line ${place.line}, column ${place.column}`;
  return new AgentError('INVALID_ARGUMENT', `Invalid ${what}${where}: ${reason}`, {
    details: { path: what, ...place },
    ...options,
  });
}
