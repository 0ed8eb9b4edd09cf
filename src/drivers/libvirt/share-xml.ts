/**
 * A guest's share → its XML, in a domain or to be plugged into one; and back. Pure.
 *
 * libvirt starts a daemon for each, virtiofsd, which is root on the host: what root in the guest owns in the share, root
 * of the host owns. It serves one folder, from namespaces of its own with nothing in them but that folder, without the
 * rights to mount, to load and to go beyond a quota, and behind a filter of system calls. So a link that a guest makes
 * leads into the guest. Extended attributes are not passed on (virtiofsd's default): a guest can't give a file of the
 * host capabilities. Whoever puts files there from the host must take them for hostile.
 *
 * libvirt before 11.0 refuses `readonly` for virtiofs. So a read-only share has another program as its daemon
 * (bin/berth-virtiofsd-readonly): it makes the folder read-only in a mount namespace of its own, and becomes virtiofsd
 * there. Nothing of that is left when the daemon ends, however it ends.
 */
import { AgentError } from '../../model/errors.ts';
import { MountTag } from '../../model/share.ts';
import { findFault } from '../../model/validate.ts';
import type { GuestShare, ShapeShare } from '../contracts/hypervisor.ts';
import { attributeOf, elementsAt, type XmlElement } from '../host/xml-read.ts';
import { type XmlNode, xml } from './xml.ts';

/** By its name a read-only share is known again, wherever the program lies. */
const READ_ONLY_PROGRAM = 'berth-virtiofsd-readonly';
/** Where an installation has it: among the programs that libvirt's AppArmor profile lets libvirtd start. */
export const READ_ONLY_PROGRAM_PATH = `/usr/sbin/${READ_ONLY_PROGRAM}`;

/**
 * virtiofsd reads its options apart at commas, and its path by lines in no case.
 *
 * @see qemu_virtiofs.c, qemuVirtioFSBuildCommandLine
 */
const SHARABLE_PATH = /^\/[^,\p{Cc}]*$/u;

/**
 * Memory that daemons of the host can have, too. As memfd it lies where other memory lies: in no file system.
 *
 * @see formatdomain.html, Memory Backing
 */
export function sharedMemory(): XmlNode {
  return xml('memoryBacking', {}, [xml('source', { type: 'memfd' }), xml('access', { mode: 'shared' })]);
}

/**
 * @param readOnlyProgram Absolute path of READ_ONLY_PROGRAM.
 * @throws {AgentError} INVALID_ARGUMENT: a tag or path that the guest or the daemon would misread.
 */
export function shareDevice({ tag, path, readOnly }: GuestShare, readOnlyProgram: string): XmlNode {
  checkShare({ tag, path });
  return xml('filesystem', { type: 'mount', accessmode: 'passthrough' }, [
    xml('driver', { type: 'virtiofs' }),
    ...(readOnly ? [xml('binary', { path: readOnlyProgram })] : []),
    xml('source', { dir: path }),
    xml('target', { dir: tag }),
  ]);
}

export function shareOf(filesystem: XmlElement): ShapeShare {
  const program = attributeAt(filesystem, 'binary', 'path') ?? '';
  return {
    tag: attributeAt(filesystem, 'target', 'dir'),
    path: attributeAt(filesystem, 'source', 'dir'),
    readOnly: program.endsWith(`/${READ_ONLY_PROGRAM}`) || elementsAt(filesystem, 'readonly').length > 0,
  };
}

/** Whether the domain's memory is one that daemons of the host can have, too. */
export function sharesMemory(domain: XmlElement): boolean {
  return elementsAt(domain, 'memoryBacking', 'access').some(
    (access) => attributeOf(access, 'mode') === 'shared',
  );
}

function checkShare({ tag, path }: Pick<GuestShare, 'tag' | 'path'>): void {
  const fault = findFault(MountTag, tag);
  if (fault !== null) throw invalid(`${JSON.stringify(tag)} is no tag of a share`);
  if (!SHARABLE_PATH.test(path)) throw invalid(`the path ${JSON.stringify(path)} cannot be shared`);
}

function attributeAt(element: XmlElement, child: string, name: string): string | null {
  const found = elementsAt(element, child)[0];
  return found === undefined ? null : attributeOf(found, name);
}

function invalid(reason: string): AgentError {
  return new AgentError('INVALID_ARGUMENT', `Cannot write the guest's definition: ${reason}`);
}
