/**
 * What a definition must keep to on any host: libvirt and Linux would refuse it, so the sim does too.
 */

import { Id, MacAddress, Name, nullable, strict } from '../../model/common.ts';
import { DiskDevice, KeyName, objectionToDevice, objectionToQos, VolumeQos } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import { FIRMWARES } from '../../model/instance.ts';
import { WATCHDOGS } from '../../model/policy.ts';
import { Type } from '../../model/schema.ts';
import { MountTag } from '../../model/share.ts';
import { IMAGE_FORMATS } from '../../model/storage.ts';
import { parse } from '../../model/validate.ts';
import type { BackingFile, GuestDefinition, GuestDisk } from '../contracts/hypervisor.ts';

/** IFNAMSIZ less its NUL. @see linux/if.h */
const INTERFACE_NAME_MAX = 15;
/** Of virtio disks. @see linux/virtio_blk.h, VIRTIO_BLK_ID_BYTES */
const SERIAL_MAX = 20;

const Path = Type.String({ pattern: '^/[^\\0]*$', description: 'absolute path' });
const Format = Type.Enum([...IMAGE_FORMATS]);
const Interface = Type.String({
  pattern: `^[A-Za-z0-9._-]{1,${INTERFACE_NAME_MAX}}$`,
  description: `name of an interface, 1 to ${INTERFACE_NAME_MAX} of letters, digits, dot, - and _`,
});

const EncryptedBy = nullable(strict({ volumeId: Id, key: KeyName }));

/** One file of a chain; the next is looked at by itself. */
const Backing = strict({
  path: Path,
  format: Format,
  backing: Type.Optional(Type.Unknown()),
  encryption: Type.Optional(EncryptedBy),
});

const Definition = strict({
  id: Id,
  name: Name,
  vcpus: Type.Integer({ minimum: 1 }),
  memoryMib: Type.Integer({ minimum: 1 }),
  firmware: Type.Enum([...FIRMWARES]),
  disks: Type.Array(
    strict({
      serial: Type.String({ minLength: 1, maxLength: SERIAL_MAX }),
      path: Path,
      format: Format,
      readOnly: Type.Boolean(),
      backing: nullable(Backing),
      device: Type.Optional(DiskDevice),
      qos: Type.Optional(nullable(VolumeQos)),
      encryption: Type.Optional(EncryptedBy),
    }),
  ),
  shares: Type.Optional(Type.Array(strict({ tag: MountTag, path: Path, readOnly: Type.Boolean() }))),
  nics: Type.Array(strict({ macAddress: MacAddress, bridge: Interface, tapName: Interface })),
  consoleLogPath: nullable(Path),
  watchdog: Type.Optional(Type.Enum([...WATCHDOGS])),
  generationId: Type.Optional(Id),
  metadata: Type.String(),
});

/** @throws {AgentError} INVALID_ARGUMENT */
export function checkDefinition(definition: GuestDefinition): void {
  parse(Definition, definition, 'definition of a guest');
  definition.disks.forEach(checkDisk);
  for (const { backing } of definition.disks) checkChain(backing);
  const serials = definition.disks.map(({ serial }) => serial);
  if (new Set(serials).size !== serials.length)
    throw new AgentError('INVALID_ARGUMENT', `Two disks of guest ${definition.id} have one serial`);
  const tags = (definition.shares ?? []).map(({ tag }) => tag);
  if (new Set(tags).size === tags.length) return;
  throw new AgentError('INVALID_ARGUMENT', `Two shares of guest ${definition.id} have one tag`);
}

function checkChain(file: BackingFile | null): void {
  for (let at = file; at !== null; at = at.backing ?? null) parse(Backing, at, 'file that a disk stands on');
}

/** @throws {AgentError} INVALID_ARGUMENT */
export function checkDisk({ device = {}, qos }: Pick<GuestDisk, 'device' | 'qos'>): void {
  const objection = objectionToDevice(device) ?? objectionToQos(qos ?? {});
  if (objection !== null)
    throw new AgentError('INVALID_ARGUMENT', `A disk cannot be like that: ${objection}`);
}
