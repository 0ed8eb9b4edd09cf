/** Base64 as it comes from a caller: read strictly, where Node's own reading passes over what it does not know. */

/** The bytes; null where it is no base64, also because of a line break. @see RFC 4648, 4 */
export function bytesOfBase64(text: string): Buffer | null {
  const isWhole = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
  return isWhole ? Buffer.from(text, 'base64') : null;
}
