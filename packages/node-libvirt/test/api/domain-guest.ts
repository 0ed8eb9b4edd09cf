/**
 * Guests for the tests of domains: tiny, under TCG, without an operating system.
 *
 * A guest that runs without a boot sector (boot-sectors.ts) finds nothing to boot, and idles.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Connection } from '../../src/connection.ts';
import type { Domain } from '../../src/domain.ts';
import { LibvirtError, LibvirtUnsupportedError } from '../../src/errors.ts';
import { constants } from '../../src/index.ts';
import type { HostOptions, PrivateHost, TestScope } from '../support/private-host.ts';

const { virDomainUndefineFlagsValues: undefineFlags } = constants;

export interface GuestOptions {
  name: string;
  /** Of the test driver, or of QEMU under TCG. @default 'qemu' */
  type?: 'qemu' | 'test';
  /** @default 32 */
  memoryMib?: number;
  /** @default 1 */
  vcpus?: string;
  /** Elements of <devices>. */
  devices?: string;
  /** Other elements of <domain>. */
  more?: string;
}

/** QEMU as root may open what a test has made. Files of saved state may be sparse. */
export const GUEST_HOST: HostOptions = { qemuConf: { user: 'root', group: 'root' } };

/** Programs of the machine that guests need. */
export const GUEST_PROGRAMS = ['qemu-system-x86_64', 'qemu-img'];

/** What a domain may have besides its definition, all of which goes with it. */
const WITH_EVERYTHING =
  undefineFlags.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | undefineFlags.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;

/** The XML of a domain. */
export function guestXml(options: GuestOptions): string {
  const { name, type = 'qemu', memoryMib = 32, vcpus = '<vcpu>1</vcpu>', devices = '', more = '' } = options;
  return `<domain type='${type}'>
  <name>${name}</name><memory unit='MiB'>${memoryMib}</memory>${vcpus}
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>
  <pm><suspend-to-mem enabled='yes'/></pm>
  ${more}
  <devices><video><model type='vga'/></video>${devices}</devices>
</domain>`;
}

/** The device that boots an image from boot-sectors.ts. */
export function floppy(dir: string, image: Buffer): string {
  const path = join(dir, 'floppy.img');
  writeFileSync(path, image);
  return `<disk type='file' device='floppy'><source file='${path}'/><target dev='fda'/></disk>`;
}

/**
 * The virtio disk of a chain of qcow2 images of 4 MiB, the first at the bottom.
 *
 * @param names Files that are made in the host's folder; the images on top refer to those below.
 */
export async function qcow2Disk(
  host: PrivateHost,
  target: string,
  names: readonly string[],
): Promise<string> {
  const paths = names.map((name) => join(host.dir, `${name}.qcow2`));
  for (const [level, path] of paths.entries()) {
    const below = paths[level - 1];
    const backing = below === undefined ? [] : ['-F', 'qcow2', '-b', below];
    const made = await host.run('qemu-img', 'create', '-q', '-f', 'qcow2', ...backing, path, '4M');
    if (made.code !== 0) throw new Error(made.stderr);
  }
  return `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${paths.at(-1)}'/>
    <target dev='${target}' bus='virtio'/></disk>`;
}

/** Defines a domain for one test: in the end it is stopped, and undefined with all that belongs to it. */
export async function defineGuest(t: TestScope, connection: Connection, xml: string): Promise<Domain> {
  const domain = await connection.domainDefineXML(xml);
  t.teardown(async () => {
    // Another object than the test's: what it calls does not count as called by the test.
    const { name, uuid } = domain;
    const args = { dom: { name, uuid, id: -1 }, flags: 0 };
    await connection.call('domainDestroyFlags', args).catch(ignoreLibvirtError);
    await connection
      .call('domainUndefineFlags', { ...args, flags: WITH_EVERYTHING })
      .catch(ignoreLibvirtError);
  });
  return domain;
}

/** Made when it is first needed, and then the same for all. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** The result of a method that newer daemons have; undefined from an older one, which must refuse it for that reason. */
export async function ifDaemonHas<T>(since: string, call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof LibvirtUnsupportedError && error.neededVersion === since) return undefined;
    throw error;
  }
}

/** There may be nothing left to stop or to undefine. */
function ignoreLibvirtError(error: unknown): void {
  if (!(error instanceof LibvirtError)) throw error;
}
