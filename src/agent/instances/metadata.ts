/**
 * What a guest carries on the host so that its instance can be known again without a database (promise 5).
 *
 * Written with each definition, read by strict schemas: a definition can be changed by anyone who may talk to
 * the hypervisor, so nothing in it is believed but what fits. Versions of older Berths are still read.
 * User-data is not in it, since it may hold secrets and anyone who may list guests could read it there.
 */
import { NetworkPlan, PortPlan } from '../../drivers/contracts/network.ts';
import { Id, Name, nullable, strict } from '../../model/common.ts';
import { DiskDevice, Encryption, VolumeQos } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import { DISK_GIB_MAX, DISKS_MAX, InstanceSpec, NICS_MAX } from '../../model/instance.ts';
import { parseJson } from '../../model/json.ts';
import { type Static, type TSchema, Type } from '../../model/schema.ts';
import { SNAPSHOTS_MAX } from '../../model/snapshot.ts';
import { Access, MountTag, SHARES_MAX } from '../../model/share.ts';
import { IMAGE_FORMATS, VolumeName } from '../../model/storage.ts';
import { parse } from '../../model/validate.ts';

/** The longest spec has 64 SSH keys of 16 KiB; what is longer than this is none of ours. Characters. */
const LENGTH_LIMIT = 2 * 1024 * 1024;

/** As Berth writes it: RFC 3339, UTC, milliseconds. */
const WrittenTime = Type.String({ pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3}Z$' });
const Counter = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const SizeGib = Type.Integer({ minimum: 1, maximum: DISK_GIB_MAX });

const GuestVolume = strict({
  id: Id,
  name: VolumeName,
  /** Absent where it is the default one: the definition is then as it was before there were others. */
  pool: Type.Optional(Name),
  sizeGib: SizeGib,
  image: nullable(strict({ id: Id, format: Type.Enum([...IMAGE_FORMATS]) })),
  deletedWithInstance: Type.Boolean(),
  createdAt: WrittenTime,
  protected: Type.Optional(Type.Boolean()),
  device: Type.Optional(DiskDevice),
  qos: Type.Optional(nullable(VolumeQos)),
  encryption: Type.Optional(Encryption),
});

const Layer = nullable(Id);

/** The layers themselves tell what they stand on; of a snapshot nothing else on the host tells. */
export const GuestSnapshot = strict({
  id: Id,
  name: Name,
  parentId: nullable(Id),
  current: Type.Boolean(),
  quiesced: Type.Boolean(),
  createdAt: WrittenTime,
  memoryVolumeId: nullable(Id),
  /** Absent where it has none: the definition is then as it was before there were any. */
  nvramVolumeId: Type.Optional(Id),
  disks: Type.Array(strict({ volumeId: Id, sizeGib: SizeGib, layer: Layer }), { maxItems: DISKS_MAX }),
});
const GuestShare = strict({ id: Id, name: Name, tag: MountTag, access: Access });

const GuestPort = strict({ network: NetworkPlan, port: PortPlan });

const Metadata = strict({
  version: Type.Literal(2),
  id: Id,
  /** The node that has written it. */
  nodeId: Id,
  generation: Counter,
  /** Number of the newest event when it was written: a database that ends before it has lost something. */
  seq: Counter,
  spec: InstanceSpec,
  createdAt: WrittenTime,
  volumes: Type.Array(GuestVolume, { maxItems: DISKS_MAX }),
  ports: Type.Array(GuestPort, { maxItems: NICS_MAX }),
  snapshots: Type.Optional(Type.Array(GuestSnapshot, { maxItems: SNAPSHOTS_MAX })),
  /** Absent where it has none: the definition is then as it was before there were any. */
  shares: Type.Optional(Type.Array(GuestShare, { maxItems: SHARES_MAX })),
});
/** `nodeId` is null where an older version has written it. */
export type GuestMetadata = Omit<Static<typeof Metadata>, 'version' | 'nodeId'> & { nodeId: string | null };

const VolumeOfVersion1 = strict({
  id: Id,
  name: VolumeName,
  pool: Type.String({ maxLength: 255 }),
  sizeGib: SizeGib,
  imageId: nullable(Id),
  instanceId: nullable(Id),
  deletedWithInstance: Type.Boolean(),
  state: Type.Enum(['creating', 'ready', 'deleting']),
  createdAt: WrittenTime,
});

const MetadataOfVersion1 = strict({
  version: Type.Literal(1),
  id: Id,
  spec: InstanceSpec,
  createdAt: WrittenTime,
  volumes: Type.Array(VolumeOfVersion1, { maxItems: DISKS_MAX }),
  ports: Type.Array(GuestPort, { maxItems: NICS_MAX }),
});

export function writeMetadata(metadata: GuestMetadata & { nodeId: string }): string {
  return JSON.stringify({ version: 2, ...metadata });
}

/**
 * Reads what a guest carries.
 *
 * @throws {AgentError} INVALID_ARGUMENT: not what this Berth or an older one has written.
 */
export function readMetadata(text: string): GuestMetadata {
  if (text.length > LENGTH_LIMIT) {
    throw new AgentError('INVALID_ARGUMENT', `Invalid metadata: longer than ${LENGTH_LIMIT} characters`);
  }
  const value = parseJson(text);
  return versionOf(value) === 1 ? fromVersion1(fit(MetadataOfVersion1, value)) : withoutVersion(value);
}

function withoutVersion(value: unknown): GuestMetadata {
  const { version: _version, ...metadata } = fit(Metadata, value);
  return metadata;
}

/** Images all had the format that most have; a volume's own header tells it where it was another. */
function fromVersion1({
  id,
  spec,
  createdAt,
  volumes,
  ports,
}: Static<typeof MetadataOfVersion1>): GuestMetadata {
  return {
    id,
    nodeId: null,
    generation: 0,
    seq: 0,
    spec,
    createdAt,
    volumes: volumes.map(({ id, name, sizeGib, imageId, deletedWithInstance, createdAt }) => ({
      id,
      name,
      sizeGib,
      image: imageId === null ? null : { id: imageId, format: 'qcow2' as const },
      deletedWithInstance,
      createdAt,
    })),
    ports,
  };
}

function fit<S extends TSchema>(schema: S, value: unknown): Static<S> {
  return parse(schema, value, 'metadata');
}

function versionOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? (value as { version?: unknown }).version : undefined;
}
