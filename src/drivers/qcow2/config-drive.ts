/**
 * The files of an OpenStack ConfigDrive, as cloudbase-init and cloud-init read it: pure.
 *
 * There is no password in it: whoever may read the drive in the guest may read that, for as long as the guest is there.
 * Guests make one of their own, or none.
 * @see nova: doc/source/user/metadata.rst, "Config drives"; nova/virt/netutils.py for network_data.json
 */
import type { SeedContents, SeedNic } from '../contracts/storage.ts';

/** Label of the volume that guests look for. @see cloudinit/sources/DataSourceConfigDrive.py, LABEL_TYPES */
export const CONFIG_DRIVE_LABEL = 'config-2';
const FOLDER = 'openstack/latest';
/** Where a default route leads. */
const ANYWHERE = '0.0.0.0';

/**
 * Path to what is in the file; without NICs there is no network_data.json.
 *
 * @param userData What the guest gets as user-data; an empty one is left out, as guests would take it for a kind.
 */
export function configDriveFiles(
  contents: SeedContents,
  userData: string | Buffer,
): Record<string, string | Buffer> {
  const { nics, vendorData = null } = contents;
  return {
    [`${FOLDER}/meta_data.json`]: json(metaData(contents)),
    ...(userData.length === 0 ? {} : { [`${FOLDER}/user_data`]: userData }),
    // Under this key cloud-init looks for text of its own kinds. @see cloudinit/sources/__init__.py, convert_vendordata
    ...(vendorData === null ? {} : { [`${FOLDER}/vendor_data.json`]: json({ 'cloud-init': vendorData }) }),
    ...(nics.length === 0 ? {} : { [`${FOLDER}/network_data.json`]: json(networkData(nics)) }),
  };
}

function metaData({ instanceId, hostname, sshAuthorizedKeys }: SeedContents) {
  return {
    uuid: instanceId,
    name: hostname,
    hostname,
    launch_index: 0,
    ...(sshAuthorizedKeys.length > 0 && {
      public_keys: Object.fromEntries(sshAuthorizedKeys.map((key, index) => [`key-${index}`, key])),
    }),
  };
}

function networkData(nics: readonly SeedNic[]) {
  const servers = new Set(nics.flatMap(({ static: fixed }) => fixed?.dnsServers ?? []));
  return {
    links: nics.map(({ macAddress }, index) => ({
      id: linkOf(index),
      type: 'phy',
      ethernet_mac_address: macAddress,
    })),
    networks: nics.map((nic, index) => ({
      id: `network${index}`,
      network_id: `network${index}`,
      link: linkOf(index),
      ...addressing(nic.static),
    })),
    services: [...servers].map(nameServer),
  };
}

function linkOf(index: number): string {
  return `nic${index}`;
}

function addressing(fixed: SeedNic['static']) {
  if (fixed === null) return { type: 'ipv4_dhcp' };
  const { address, prefix, gateway, dnsServers } = fixed;
  return {
    type: 'ipv4',
    ip_address: address,
    netmask: maskOf(prefix),
    routes: gateway === null ? [] : [{ network: ANYWHERE, netmask: ANYWHERE, gateway }],
    services: dnsServers.map(nameServer),
  };
}

function nameServer(address: string) {
  return { type: 'dns', address };
}

/** As in 255.255.255.0 for 24. */
function maskOf(prefix: number): string {
  return [0, 1, 2, 3]
    .map((octet) => Math.min(Math.max(prefix - octet * 8, 0), 8))
    .map((bits) => 256 - 2 ** (8 - bits))
    .join('.');
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
