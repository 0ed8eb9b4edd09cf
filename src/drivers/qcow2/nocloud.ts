/**
 * The files of a NoCloud seed, as text: pure.
 *
 * YAML in its plainest block style, one key a line, strings in double quotes: read alike by cloud-init and by
 * guests that take it apart with a few lines of shell. A JSON string is a double-quoted YAML scalar.
 * @see https://docs.cloud-init.io, NoCloud; "Networking config Version 2"
 */
import type { SeedContents, SeedNic } from '../contracts/storage.ts';

/** Label of the volume that cloud-init looks for. */
export const NOCLOUD_LABEL = 'cidata';

/**
 * File name to what is in it; without NICs there is no network-config, and cloud-init falls back to DHCP.
 *
 * @param userData What the guest gets as user-data.
 */
export function nocloudFiles(
  contents: SeedContents,
  userData: string | Buffer,
): Record<string, string | Buffer> {
  const { vendorData = null } = contents;
  return {
    'meta-data': metaData(contents),
    'user-data': userData,
    ...(vendorData === null ? {} : { 'vendor-data': vendorData }),
    ...(contents.nics.length === 0 ? {} : { 'network-config': networkConfig(contents.nics) }),
  };
}

function metaData({ instanceId, hostname, sshAuthorizedKeys }: SeedContents): string {
  return lines([
    `instance-id: ${quoted(instanceId)}`,
    `local-hostname: ${quoted(hostname)}`,
    ...list('public-keys', sshAuthorizedKeys, ''),
  ]);
}

function networkConfig(nics: readonly SeedNic[]): string {
  return lines(['version: 2', 'ethernets:', ...nics.flatMap(ethernet)]);
}

/** Found by its MAC address, and named by its place: also where the guest configures by name alone. */
function ethernet(nic: SeedNic, index: number): string[] {
  return [
    `  eth${index}:`,
    '    match:',
    `      macaddress: ${quoted(nic.macAddress)}`,
    `    set-name: eth${index}`,
    ...addressing(nic.static).map((line) => `    ${line}`),
  ];
}

function addressing(fixed: SeedNic['static']): string[] {
  if (fixed === null) return ['dhcp4: true'];
  const { address, prefix, gateway, dnsServers } = fixed;
  return [
    'dhcp4: false',
    ...list('addresses', [`${address}/${prefix}`], ''),
    ...(gateway === null ? [] : ['routes:', `  - to: ${quoted('0.0.0.0/0')}`, `    via: ${quoted(gateway)}`]),
    ...(dnsServers.length === 0 ? [] : ['nameservers:', ...list('addresses', dnsServers, '  ')]),
  ];
}

function list(key: string, items: readonly string[], indent: string): string[] {
  if (items.length === 0) return [];
  return [`${indent}${key}:`, ...items.map((item) => `${indent}  - ${quoted(item)}`)];
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}
