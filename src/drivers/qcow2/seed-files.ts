/**
 * What is on the medium of a seed, in the format that it is asked in: pure.
 */
import { createHash } from 'node:crypto';
import type { SeedContents } from '../contracts/storage.ts';
import { CONFIG_DRIVE_LABEL, configDriveFiles } from './config-drive.ts';
import { NOCLOUD_LABEL, nocloudFiles } from './nocloud.ts';

export interface SeedMedium {
  /** Label of the volume, by which a guest finds it. */
  label: string;
  /** Path on the medium, without a slash before it, to what is in the file. */
  files: Readonly<Record<string, string | Buffer>>;
}

export function seedMedium(contents: SeedContents): SeedMedium {
  const { userData, userDataEncoding = 'text', format = 'nocloud' } = contents;
  const bytes = userDataEncoding === 'base64' ? Buffer.from(userData ?? '', 'base64') : (userData ?? '');
  return format === 'nocloud'
    ? { label: NOCLOUD_LABEL, files: nocloudFiles(contents, bytes) }
    : { label: CONFIG_DRIVE_LABEL, files: configDriveFiles(contents, bytes) };
}

/**
 * Digest of what a seed was asked to hold, whatever version of Berth writes it down: what older versions did not know
 * counts only where it is not the default.
 */
export function seedDigest(contents: SeedContents): string {
  const { format = 'nocloud', userDataEncoding = 'text', vendorData = null } = contents;
  const later = [format, userDataEncoding, vendorData];
  const canonical = [
    contents.instanceId,
    contents.hostname,
    contents.sshAuthorizedKeys,
    contents.userData,
    contents.nics.map(({ macAddress, static: fixed }) => [
      macAddress,
      fixed === null ? null : [fixed.address, fixed.prefix, fixed.gateway, fixed.dnsServers],
    ]),
    ...(format === 'nocloud' && userDataEncoding === 'text' && vendorData === null ? [] : later),
  ];
  return createHash('sha256').update(JSON.stringify(canonical)).digest('hex');
}
