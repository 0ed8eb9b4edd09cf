/**
 * Checkpoints of a guest: moments since which QEMU keeps what has changed, as bitmaps in the disks' own qcow2 files.
 *
 *   libvirt's list ──┐
 *   QEMU's bitmaps ──┴──▶ a disk is listed with a checkpoint only where all of its changes since then are known
 *
 * Each bitmap records on its own until it is removed, so that forgetting one takes nothing from another. A QEMU that is
 * killed saves none: they are found without a size then. While the guest does not run, libvirt can't remove bitmaps, and
 * qemu-img does. Checkpoints that others have made are neither told nor touched.
 *
 * @see formatcheckpoint.html; qemu_checkpoint.c, docs/kbase/internals/incremental-backup.rst of libvirt
 */
import { constants, type Domain, type DomainCheckpoint } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { GuestCheckpoint } from '../contracts/hypervisor.ts';
import type { KeyOfVolume, Keys } from '../contracts/keys.ts';
import { type Exec, ProcessError } from '../host/exec.ts';
import { aloneByKey, filesOf, type LentKey, Passphrases, secretArgs } from '../host/passphrases.ts';
import { attributeOf, elementsAt, readXml, type XmlElement } from '../host/xml-read.ts';
import { isLibvirtError } from './errors.ts';
import { disksOf, type LiveDisk, liveXml } from './live-disks.ts';
import { checkOurs, type CommandContext, findDomain, isDown } from './own-domain.ts';

/** Names of ours: nobody else's tool makes such ones. */
const OURS = /^berth-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** libvirt's words where a bitmap is gone that it wants to remove. @see qemuCheckpointDiscardDiskBitmaps */
const NO_BITMAP = /bitmap '.*' not found/;

const { VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL: PARENTS_FIRST } = constants.virDomainCheckpointListFlags;
const { VIR_DOMAIN_CHECKPOINT_XML_SIZE, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN: NO_DOMAIN } =
  constants.virDomainCheckpointXMLFlags;
const { VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY: METADATA_ONLY } =
  constants.virDomainCheckpointDeleteFlags;
const { VIR_DOMAIN_XML_INACTIVE } = constants.virDomainXMLFlags;

interface Forgotten {
  /** Null for all of ours. */
  names: readonly string[] | null;
  /** Of its encrypted volumes. */
  keys?: readonly KeyOfVolume[];
}

export class Checkpoints {
  readonly #exec: Exec;
  readonly #passphrases: Passphrases;

  constructor(exec: Exec, keys: Keys) {
    this.#exec = exec;
    this.#passphrases = new Passphrases(keys, null);
  }

  /** Newest first. @throws {LibvirtError} VIR_ERR_NO_DOMAIN. @throws {AgentError} HOST_CONFLICT */
  async list(context: CommandContext, domain: Domain): Promise<GuestCheckpoint[]> {
    const down = await isDown(domain, context.limits);
    const disks = disksOf(await (down ? keptXml(domain, context) : liveXml(domain, context)));
    const checkpoints: GuestCheckpoint[] = [];
    for (const checkpoint of await oursOf(domain, context))
      checkpoints.unshift(await view(checkpoint, { context, disks, down }));
    return checkpoints;
  }

  async forget(context: CommandContext, id: string, { names, keys = [] }: Forgotten): Promise<void> {
    const domain = await findDomain(context, id);
    if (domain === null) return;
    await checkOurs(domain, context.limits);
    const all = await oursOf(domain, context);
    const chosen = all.filter(({ name }) => names === null || names.includes(name));
    const down = await isDown(domain, context.limits);
    if (down) {
      const kept = new Set(all.filter((each) => !chosen.includes(each)).map(({ name }) => name));
      for (const disk of disksOf(await keptXml(domain, context)))
        await this.#removeBitmaps(context, disk, { kept, keys });
    }
    for (const checkpoint of chosen) await remove(checkpoint, context, down);
  }

  /** Those that no checkpoint is left for, too: libvirt's record may be lost where the disk is not. */
  async #removeBitmaps(
    context: CommandContext,
    { path, format, secretId }: LiveDisk,
    { kept, keys }: { kept: ReadonlySet<string>; keys: readonly KeyOfVolume[] },
  ): Promise<void> {
    if (path === null || format !== 'qcow2') return;
    const names = (await this.#bitmapsOf(context, path)).filter((name) => !kept.has(name));
    if (names.length === 0) return;
    await using key = secretId === null ? null : await this.#lend(secretId, keys);
    for (const name of names) {
      const image = key === null ? ['-f', 'qcow2', path] : [aloneByKey(path)];
      const args = ['bitmap', '--remove', ...secretArgs(key, 0), ...image, name];
      await this.#image(context, args, filesOf(key));
    }
  }

  /** @throws {AgentError} NOT_FOUND, PERMISSION_DENIED */
  async #lend(secretId: string, keys: readonly KeyOfVolume[]): Promise<LentKey | null> {
    const found = keys.find(({ volumeId }) => volumeId === secretId);
    if (found !== undefined) return this.#passphrases.lend(secretId, { key: found.key });
    throw new AgentError('NOT_FOUND', `No key is named for volume ${secretId}, which is encrypted`);
  }

  async #bitmapsOf(context: CommandContext, path: string): Promise<string[]> {
    const stdout = await this.#image(context, ['info', '-f', 'qcow2', '--output=json', path]);
    const info = JSON.parse(stdout) as { 'format-specific'?: { data?: { bitmaps?: { name: string }[] } } };
    const bitmaps = info['format-specific']?.data?.bitmaps ?? [];
    return bitmaps.map(({ name }) => name).filter((name) => OURS.test(name));
  }

  async #image({ limits }: CommandContext, args: readonly string[], files: number[] = []): Promise<string> {
    const { timeoutMs, signal } = limits.next();
    const options = { timeoutMs, files, ...(signal !== undefined && { signal }) };
    const { stdout } = await this.#exec.run('qemu-img', args, options).catch((cause: unknown) => {
      if (!(cause instanceof ProcessError)) throw cause;
      // As when the guest was started meanwhile: the next try removes them by libvirt.
      throw new AgentError('UNAVAILABLE', `qemu-img ${args[0]} can not be run on the bitmaps of a disk`, {
        cause,
      });
    });
    return stdout;
  }
}

/** In the order in which they were made. */
async function oursOf(domain: Domain, { limits }: CommandContext): Promise<DomainCheckpoint[]> {
  const all = await domain.listAllCheckpoints(PARENTS_FIRST, limits.next());
  return all.filter(({ name }) => OURS.test(name));
}

async function keptXml(domain: Domain, { limits }: CommandContext): Promise<XmlElement> {
  return readXml(await domain.getXMLDesc(VIR_DOMAIN_XML_INACTIVE, { ...limits.next(), role: 'short' }));
}

interface Sight {
  context: CommandContext;
  disks: readonly LiveDisk[];
  down: boolean;
}

async function view(checkpoint: DomainCheckpoint, { context, disks, down }: Sight): Promise<GuestCheckpoint> {
  const { limits } = context;
  const flags = NO_DOMAIN | (down ? 0 : VIR_DOMAIN_CHECKPOINT_XML_SIZE);
  const read = checkpoint.getXMLDesc(flags, limits.next()).then(readXml);
  const root = await read.catch((error: unknown) => {
    if (isLibvirtError(error, 'VIR_ERR_CHECKPOINT_INCONSISTENT')) return null;
    throw error;
  });
  const tracked = root === null ? [] : elementsAt(root, 'disks', 'disk').filter(isTracked);
  return { name: checkpoint.name, disks: tracked.flatMap((disk) => viewOfDisk(disk, disks, down)) };
}

function isTracked(disk: XmlElement): boolean {
  return attributeOf(disk, 'checkpoint') === 'bitmap';
}

/** Where another disk has the target by now, its file has no such bitmap, and libvirt tells no size. */
function viewOfDisk(disk: XmlElement, disks: readonly LiveDisk[], down: boolean): GuestCheckpoint['disks'] {
  const known = disks.find(({ target }) => target === attributeOf(disk, 'name'));
  const size = attributeOf(disk, 'size');
  if (known === undefined || (size === null && !down)) return [];
  return [{ serial: known.serial, changedBytes: size === null ? null : Number(size) }];
}

/** Where its bitmaps are gone, what is left is libvirt's record. */
async function remove(
  checkpoint: DomainCheckpoint,
  { limits }: CommandContext,
  down: boolean,
): Promise<void> {
  try {
    await checkpoint.delete(down ? METADATA_ONLY : 0, limits.next());
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN_CHECKPOINT')) return;
    if (!NO_BITMAP.test(String((error as Error).message))) throw error;
    await checkpoint.delete(METADATA_ONLY, limits.next());
  }
}
