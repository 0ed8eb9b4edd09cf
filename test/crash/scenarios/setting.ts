/**
 * What every scenario finds: an image, a network, a volume, and a running guest that no operation is about and
 * that must never notice anything. Beside them, what the scenario asks for, and nothing else.
 */
import type { Params } from '../../../src/model/methods.ts';
import type { Share } from '../../../src/model/share.ts';
import type { Volume } from '../../../src/model/storage.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import { DEFAULT_POOL } from '../../../src/model/pool.ts';
import { type LabNode, OTHER_POOL } from '../node/lab-node.ts';
import { until } from '../node/until.ts';
import type { Stand } from '../stands/stand.ts';

export const IMAGE = 'base';
export const NETWORK = 'default';
export const VOLUME = 'data';
export const BYSTANDER = 'bystander';
/** What scenarios are about. */
export const SUBJECT = 'web';

/** Room for the subject, kept free. */
export const RESERVATION = 'c0ffee00-0000-4000-8000-000000000000';

/** By the key of the laboratory. */
export const ENCRYPTION = { key: 'disks' };

/** Longer than a clock is set forward. */
const RESERVED_SECONDS = 5 * 86_400;
/** Bound of a guest's boot, ms. */
const BOOT_MS = 60_000;

export interface Setting {
  /** Of the subject. @default there is none */
  instance?: 'running' | 'stopped';
  /** Of the subject. @default 'bios' */
  firmware?: 'bios' | 'uefi';
  volumes?: readonly string[];
  /** Volumes that are encrypted. */
  encrypted?: readonly string[];
  /** In the other pool. */
  otherVolumes?: readonly string[];
  shares?: readonly string[];
  images?: readonly string[];
  networks?: readonly string[];
  /** Whether there is RESERVATION. @default false */
  reservation?: boolean;
}

export function instanceSpec(name: string, change: Partial<Params<'instance.create'>['spec']> = {}) {
  const spec: Params<'instance.create'>['spec'] = {
    name,
    vcpus: 1,
    memoryMib: 32,
    firmware: 'bios',
    disks: [{ image: IMAGE }, { volume: VOLUME }],
    nics: [{ network: NETWORK }],
    sshAuthorizedKeys: [],
    watchdog: 'none',
    policies: DEFAULT_POLICIES,
    ...change,
  };
  return spec;
}

export function networkSpec(name: string, cidr: string): Params<'network.create'>['spec'] {
  return { name, cidr, nat: true, dhcp: true, dnsServers: [] };
}

/** Makes what all scenarios share, once. */
export async function furnish({ node, image }: Stand): Promise<void> {
  await node.run('image.import', { name: IMAGE, ...image });
  await node.run('network.create', { spec: networkSpec(NETWORK, '10.77.0.0/24') });
  await node.run('volume.create', { name: VOLUME, sizeGib: 1 });
  const disks = [{ image: IMAGE }];
  await node.run('instance.create', { spec: instanceSpec(BYSTANDER, { disks }) });
  await untilBooted(node, BYSTANDER, 0);
}

/** Brings the node there, from wherever the last case has left it. */
export async function bringTo(stand: Stand, setting: Setting): Promise<void> {
  const { node } = stand;
  await takeSnapshotsBack(node);
  await takeVolumesBack(node);
  await takeSharesBack(node);
  await forgetOtherSubject(node);
  await bringSubject(node, setting);
  const { volumes } = await node.call('volume.list');
  const kept = [VOLUME, setting.volumes, setting.otherVolumes, setting.encrypted].flatMap(
    (each) => each ?? [],
  );
  for (const volume of volumes) if (!mayStay(volume, kept)) await deleteVolume(node, volume);
  const { shares } = await node.call('share.list');
  for (const share of shares) if (!mayShareStay(share, setting.shares ?? [])) await deleteShare(node, share);
  const { images } = await node.call('image.list');
  for (const { name } of images)
    if (![IMAGE, ...(setting.images ?? [])].includes(name)) await node.run('image.delete', { id: name });
  const { networks } = await node.call('network.list');
  for (const { name } of networks)
    if (![NETWORK, ...(setting.networks ?? [])].includes(name))
      await node.run('network.delete', { id: name });
  await makeMissing(stand, setting);
  await bringReservation(node, setting);
}

/** Made anew, as one of which a case has taken a part. */
async function bringReservation(node: LabNode, { reservation = false }: Setting): Promise<void> {
  const { reservations } = await node.call('reservation.list');
  for (const { id } of reservations) await node.call('reservation.release', { id });
  if (!reservation) return;
  const resources = { VCPU: 1, MEMORY_MB: 64, DISK_GB: [{ pool: DEFAULT_POOL, gib: 1 }] };
  await node.call('reservation.create', { id: RESERVATION, resources, seconds: RESERVED_SECONDS });
}

/** One that a case has changed is made anew, as it was when what is right was taken down. */
function mayStay(
  { name, instanceId, sizeGib, qos, protected: isProtected }: Volume,
  kept: string[],
): boolean {
  const isAsMade = sizeGib === 1 && qos === null && !isProtected;
  return instanceId !== null || (kept.includes(name) && isAsMade);
}

async function deleteVolume(node: LabNode, { name, protected: isProtected }: Volume): Promise<void> {
  if (isProtected) await node.run('volume.configure', { id: name, protected: false });
  await node.run('volume.delete', { id: name });
}

/** With all that they have left. */
async function takeSnapshotsBack(node: LabNode): Promise<void> {
  const { instances } = await node.call('instance.list');
  if (!instances.some(({ name }) => name === SUBJECT)) return;
  const { snapshots } = await node.call('snapshot.list', { id: SUBJECT });
  for (const { id } of snapshots) await node.run('snapshot.delete', { id: SUBJECT, snapshot: id });
  await node.run('snapshot.merge', { id: SUBJECT });
}

/** From the subject: nothing in its guest would let a disk go while it runs. */
async function takeVolumesBack(node: LabNode): Promise<void> {
  const { volumes } = await node.call('volume.list');
  const attached = volumes.filter(
    ({ name, instanceId, deletedWithInstance }) =>
      instanceId !== null && !deletedWithInstance && name !== VOLUME,
  );
  if (attached.length > 0) await node.run('instance.stop', { id: SUBJECT, mode: 'forced' });
  for (const { id } of attached) await node.run('volume.detach', { id });
}

function mayShareStay({ name, quotaGib, protected: isProtected }: Share, kept: readonly string[]): boolean {
  return kept.includes(name) && quotaGib === null && !isProtected;
}

async function deleteShare(node: LabNode, { name, protected: isProtected }: Share): Promise<void> {
  if (isProtected) await node.run('share.configure', { id: name, protected: false });
  await node.run('share.delete', { id: name });
}

/** From the subject, as its volumes. */
async function takeSharesBack(node: LabNode): Promise<void> {
  const { shares } = await node.call('share.list');
  const attached = shares.filter(({ users }) => users.length > 0);
  if (attached.length > 0) await node.run('instance.stop', { id: SUBJECT, mode: 'forced' });
  for (const { id } of attached) await node.run('share.detach', { id, instance: SUBJECT });
}

/** One whose disk a case has flattened, or made encrypted or in another pool, is made anew, as the others are. */
async function forgetOtherSubject(node: LabNode): Promise<void> {
  const { volumes } = await node.call('volume.list');
  const disk = volumes.find(({ name }) => name === `${SUBJECT}-disk0`);
  if (disk === undefined) return;
  const isAsMade = disk.imageId !== null && disk.encryption === null && disk.pool === DEFAULT_POOL;
  if (!isAsMade) await node.run('instance.delete', { id: SUBJECT });
}

async function bringSubject(
  node: LabNode,
  { instance: wanted, firmware = 'bios' }: Pick<Setting, 'instance' | 'firmware'>,
): Promise<void> {
  const { instances } = await node.call('instance.list');
  const there = instances.find(({ name }) => name === SUBJECT);
  const isRight = wanted !== undefined && there?.spec.firmware === firmware;
  if (there !== undefined && !isRight) await node.run('instance.delete', { id: SUBJECT });
  if (wanted === undefined) return;
  const found = isRight ? there : undefined;
  const marks = found === undefined ? 0 : await bootMarks(node, SUBJECT);
  if (found === undefined) await node.run('instance.create', { spec: instanceSpec(SUBJECT, { firmware }) });
  // Done already, but where a case of instance.configure came before.
  else await node.run('instance.configure', { id: SUBJECT, policies: instanceSpec(SUBJECT).policies });
  if (wanted === 'stopped') return node.run('instance.stop', { id: SUBJECT, mode: 'forced' });
  if (found?.power.state === 'running') return;
  await node.run('instance.start', { id: SUBJECT });
  await untilBooted(node, SUBJECT, marks);
}

async function makeMissing({ node, image }: Stand, setting: Setting): Promise<void> {
  for (const name of setting.volumes ?? [])
    if (!(await has(node, 'volume.show', name))) await node.run('volume.create', { name, sizeGib: 1 });
  for (const name of setting.encrypted ?? [])
    if (!(await has(node, 'volume.show', name)))
      await node.run('volume.create', { name, sizeGib: 1, encryption: ENCRYPTION });
  for (const name of setting.otherVolumes ?? [])
    if (!(await has(node, 'volume.show', name)))
      await node.run('volume.create', { name, sizeGib: 1, pool: OTHER_POOL });
  for (const name of setting.shares ?? [])
    if (!(await has(node, 'share.show', name))) await node.run('share.create', { name });
  for (const name of setting.images ?? [])
    if (!(await has(node, 'image.show', name))) await node.run('image.import', { name, ...image });
  for (const name of setting.networks ?? [])
    if (!(await has(node, 'network.show', name)))
      await node.run('network.create', { spec: networkSpec(name, '10.78.0.0/24') });
}

function has(
  node: LabNode,
  method: 'volume.show' | 'share.show' | 'image.show' | 'network.show',
  id: string,
) {
  return node.call(method, { id }).then(
    () => true,
    (error: { code?: string }) => {
      if (error.code === 'NOT_FOUND') return false;
      throw error;
    },
  );
}

/** A guest that boots does not listen to its power button yet. */
async function untilBooted(node: LabNode, name: string, marksBefore: number): Promise<void> {
  await until(async () => (await bootMarks(node, name)) > marksBefore, `${name} has booted`, BOOT_MS);
}

/** Each boot leaves one in the console: of the real guest a B, of the simulated one a line with a b. */
async function bootMarks(node: LabNode, name: string): Promise<number> {
  const { text } = await node.call('instance.console', { id: name, tailBytes: 65_536 });
  return text.match(/B|boot/g)?.length ?? 0;
}
