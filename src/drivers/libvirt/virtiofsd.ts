/**
 * Whether this host can give shares to guests: the daemon that serves them, and QEMU's device for it.
 *
 * The daemon lies in other places on other distributions. It is found as libvirt finds it: by the descriptions that its
 * package leaves for QEMU's vhost-user programs.
 *
 * @see docs/interop/vhost-user.json, QEMU; qemu_vhost_user.c, qemuVhostUserFillDomainFS
 */
import { constants } from 'node:fs';
import type { HypervisorFacts } from '../contracts/hypervisor.ts';
import { may } from '../host/findings.ts';
import { elementsAt, attributeOf, readXml, textOf } from '../host/xml-read.ts';
import { descriptionsIn } from './descriptions.ts';

/** What an operator puts there comes before what a package does. */
const FOLDERS = ['/etc/qemu/vhost-user', '/usr/share/qemu/vhost-user'];

export interface ShareProbe {
  /** The answer of virConnectGetDomainCapabilities. */
  capabilities: string;
  /** Absolute path of the program that serves read-only shares. */
  readOnlyProgram: string;
  /** Where descriptions of vhost-user programs lie. @default FOLDERS */
  folders?: readonly string[];
}

export async function probeShares(probe: ShareProbe): Promise<NonNullable<HypervisorFacts['shares']>> {
  const { capabilities, readOnlyProgram, folders = FOLDERS } = probe;
  if (!offersVirtiofs(capabilities)) return unusable('QEMU or libvirt has no device for virtiofs');
  const daemon = await findVirtiofsd(folders);
  if (daemon === null) return unusable('virtiofsd is not installed');
  const isThere = await may(readOnlyProgram, constants.X_OK);
  return isThere
    ? { usable: true, reason: `${daemon} serves them` }
    : unusable(`${readOnlyProgram}, which serves those that are read-only, is not there`);
}

/** Absolute path; null for none that can be started. */
export async function findVirtiofsd(folders: readonly string[] = FOLDERS): Promise<string | null> {
  for (const folder of folders) {
    for (const description of await descriptionsIn(folder)) {
      const path = binaryIn(description);
      if (path !== null && (await may(path, constants.X_OK))) return path;
    }
  }
  return null;
}

function offersVirtiofs(capabilities: string): boolean {
  return elementsAt(readXml(capabilities), 'devices', 'filesystem', 'enum')
    .filter((element) => attributeOf(element, 'name') === 'driverType')
    .some((element) => elementsAt(element, 'value').some((value) => textOf(value) === 'virtiofs'));
}

/** What a description says of a daemon for file systems; null where it is about another program. */
function binaryIn({ type, binary }: Record<string, unknown>): string | null {
  return type === 'fs' && typeof binary === 'string' && binary.startsWith('/') ? binary : null;
}

function unusable(reason: string): { usable: false; reason: string } {
  return { usable: false, reason };
}
