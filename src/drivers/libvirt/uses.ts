/**
 * What the domains of the host use of it, and what libvirt keeps for them by their names.
 *
 * Every absolute path anywhere in a domain's XML counts as used, whatever element it stands in: a disk, the chain
 * below it, a console's log, firmware, a kernel. A path too many keeps a file that could go; one too few would take a
 * disk from a guest. Both definitions count, the live one and the one for the next start.
 *
 * What it can't see: a disk that is named by a symbolic link, and the chain below a disk of a stopped domain that does
 * not write its chain out.
 */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, type Domain } from 'node-libvirt';
import type { GuestUse, KeptFile } from '../contracts/hypervisor.ts';
import { isLibvirtError } from './errors.ts';
import type { CommandContext } from './own-domain.ts';
import { attributeOf, elementsAt, readXml, textOf, type XmlElement } from '../host/xml-read.ts';

/** Unit of `st_blocks`, bytes. @see stat(2) */
const STAT_BLOCK_BYTES = 512;

/** Where libvirt keeps files of domains, by kind, and how they are named. @see qemu_conf.c; qemu_driver.c, qemuDomainManagedSavePath */
const KEPT = {
  nvram: { folder: 'nvram', suffix: '_VARS.fd' },
  'saved-memory': { folder: 'save', suffix: '.save' },
} as const satisfies Record<KeptFile['kind'], { folder: string; suffix: string }>;
const KEPT_KINDS = Object.keys(KEPT) as KeptFile['kind'][];

/** What a domain's XML names of the host; pure. */
export function usesOf(xml: string): { files: string[]; devices: string[] } {
  const root = readXml(xml);
  const volumes = elementsAt(root, 'devices', 'disk', 'source').map((source) =>
    attributeOf(source, 'volume'),
  );
  const targets = elementsAt(root, 'devices', 'interface', 'target').map((target) =>
    attributeOf(target, 'dev'),
  );
  return {
    files: [...pathsIn(root), ...volumes.filter((name) => name !== null)],
    devices: targets.filter((name) => name !== null),
  };
}

/** Null when the domain is gone meanwhile. */
export async function readUse(domain: Domain, { limits }: CommandContext): Promise<GuestUse | null> {
  const { VIR_DOMAIN_XML_INACTIVE } = constants.virDomainXMLFlags;
  try {
    const texts = await Promise.all(
      [0, VIR_DOMAIN_XML_INACTIVE].map((flags) => domain.getXMLDesc(flags, limits.next())),
    );
    const uses = texts.map(usesOf);
    return {
      id: domain.uuid,
      name: domain.name,
      files: [...new Set(uses.flatMap(({ files }) => files))],
      devices: [...new Set(uses.flatMap(({ devices }) => devices))],
    };
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN')) return null;
    throw error;
  }
}

export function keptPathsIn(folder: string, guestName: string): Record<KeptFile['kind'], string> {
  const path = (kind: KeptFile['kind']) => join(folder, KEPT[kind].folder, guestName + KEPT[kind].suffix);
  return { nvram: path('nvram'), 'saved-memory': path('saved-memory') };
}

/** @param folder libvirt's own, of the QEMU driver. */
export async function listKeptIn(folder: string): Promise<KeptFile[]> {
  const lists = await Promise.all(KEPT_KINDS.map((kind) => listKind(folder, kind)));
  return lists.flat();
}

async function listKind(folder: string, kind: KeptFile['kind']): Promise<KeptFile[]> {
  const { folder: name, suffix } = KEPT[kind];
  const names = (await unlessAbsent(readdir(join(folder, name)))) ?? [];
  const found: KeptFile[] = [];
  for (const file of names.filter((each) => each.endsWith(suffix)).sort()) {
    const path = join(folder, name, file);
    const stats = await unlessAbsent(lstat(path));
    if (stats === null) continue;
    const guestName = file.slice(0, -suffix.length);
    found.push({ kind, path, guestName, sizeBytes: stats.blocks * STAT_BLOCK_BYTES });
  }
  return found;
}

function pathsIn(element: XmlElement): string[] {
  const own = Object.keys(element).filter((name) => name.startsWith('@'));
  const attributes = own.map((name) => attributeOf(element, name.slice(1)) ?? '');
  const children = Object.values(element).flatMap((value) => (Array.isArray(value) ? value : []));
  const paths = [...attributes, textOf(element).trim()].filter((text) => text.startsWith('/'));
  return [...paths, ...children.flatMap((child: XmlElement) => pathsIn(child))];
}

async function unlessAbsent<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
