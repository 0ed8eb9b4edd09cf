/** The disks of a domain that runs, as libvirt has them. */
import type { Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import { attributeOf, elementsAt, readXml, textOf, type XmlElement } from '../host/xml-read.ts';
import type { CommandContext } from './own-domain.ts';

export interface LiveDisk {
  serial: string;
  /** As `vda`. */
  target: string;
  path: string | null;
  /** The files that it reads, that path first. */
  chain: string[];
  /** Of its file, as `qcow2`. */
  format: string | null;
  /** The volume whose passphrase opens its file; null where it is not encrypted. */
  secretId: string | null;
}

export async function liveXml(domain: Domain, { limits }: CommandContext): Promise<XmlElement> {
  return readXml(await domain.getXMLDesc(0, { ...limits.next(), role: 'short' }));
}

export async function liveDisk(
  domain: Domain,
  context: CommandContext,
  serial: string,
): Promise<LiveDisk | null> {
  const disks = disksOf(await liveXml(domain, context));
  return disks.find((disk) => disk.serial === serial) ?? null;
}

/** @throws {AgentError} NOT_FOUND */
export async function thatDisk(domain: Domain, context: CommandContext, serial: string): Promise<LiveDisk> {
  const disk = await liveDisk(domain, context, serial);
  if (disk !== null) return disk;
  throw new AgentError('NOT_FOUND', `Guest ${domain.uuid} runs without a disk ${serial}`);
}

export function disksOf(live: XmlElement): LiveDisk[] {
  return elementsAt(live, 'devices', 'disk').map((disk) => ({
    serial: textOf(elementsAt(disk, 'serial')[0] ?? {}),
    target: attributeAt(disk, 'target', 'dev') ?? '',
    path: attributeAt(disk, 'source', 'file'),
    chain: chainOf(disk),
    format: attributeAt(disk, 'driver', 'type'),
    secretId: secretOf(disk),
  }));
}

function chainOf(file: XmlElement): string[] {
  const path = attributeAt(file, 'source', 'file');
  const [backing] = elementsAt(file, 'backingStore');
  return path === null ? [] : [path, ...(backing === undefined ? [] : chainOf(backing))];
}

/** libvirt shows it within the source. @see formatstorageencryption.html */
function secretOf(disk: XmlElement): string | null {
  const [secret] = elementsAt(disk, 'source', 'encryption', 'secret');
  return secret === undefined ? null : attributeOf(secret, 'uuid');
}

function attributeAt(element: XmlElement, child: string, name: string): string | null {
  const found = elementsAt(element, child)[0];
  return found === undefined ? null : attributeOf(found, name);
}
