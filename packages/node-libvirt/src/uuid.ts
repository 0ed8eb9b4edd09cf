/** UUIDs as libvirt writes them: 16 bytes on the wire, 36 lower-case characters here. */
import { LibvirtUsageError } from './errors.ts';

const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;

/** Formats 16 bytes as lower-case text with dashes. */
export function uuidFromBytes(bytes: Buffer): string {
  return uuidFromHex(bytes.toString('hex'));
}

/** Puts the dashes into 32 hexadecimal digits. */
export function uuidFromHex(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * Reads text, with or without dashes, of either case.
 *
 * @throws {LibvirtUsageError} It is no UUID.
 */
export function uuidToBytes(text: unknown): Buffer {
  if (typeof text !== 'string' || !UUID.test(text))
    throw new LibvirtUsageError(`not a UUID: ${describe(text)}`);
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}

function describe(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 64)) : typeof value;
}
