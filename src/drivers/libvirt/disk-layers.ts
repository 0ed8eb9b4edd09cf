/**
 * The chain of files of a disk, while its guest runs: another file is put on top, or one is merged into the next.
 *
 * Names are ours: the file on top is there before the guest is switched to it, and libvirt keeps no snapshot of its own.
 * A merge is a block job of QEMU's, which goes on without us; so one that a crash has left is joined.
 *
 * @see virDomainSnapshotCreateXML and virDomainBlockCommit, libvirt-domain.h; formatsnapshot.html
 */
import { constants, type Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { DiskMerge, DiskOverlay } from '../contracts/hypervisor.ts';
import { pausedAgent } from './guest-quiet.ts';
import { endJob, jobOn, pause } from './block-jobs.ts';
import { isAgentError, isLibvirtError } from './errors.ts';
import { disksOf, liveXml, type LiveDisk, thatDisk } from './live-disks.ts';
import { type CommandContext, illegal, isDown, isPaused, ownDomain } from './own-domain.ts';
import { encryptionXml } from './secrets.ts';
import { withDisksOf } from './saved-xml.ts';
import { writeXml, type XmlNode, xml } from './xml.ts';

const SNAPSHOT = constants.virDomainSnapshotCreateFlags;
const COMMIT = constants.virDomainBlockCommitFlags;
const JOB = constants.virDomainBlockJobType;
const { VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT: PIVOT } = constants.virDomainBlockJobAbortFlags;
const { VIR_DOMAIN_XML_INACTIVE: KEPT } = constants.virDomainXMLFlags;
const { VIR_DOMAIN_SAVE_RUNNING: RUNNING } = constants.virDomainSaveRestoreFlags;
/** Nothing of libvirt's own, all disks or none, and on files that are there. */
const SWITCH_FLAGS =
  SNAPSHOT.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA |
  SNAPSHOT.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
  SNAPSHOT.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT;
const NO_ROOM = /No space left on device|Disk quota exceeded/;

export interface SwitchOptions {
  quiesce: boolean;
  memoryPath: string | null;
}

export interface MergeListeners {
  onProgress: ProgressListener;
  /** Before a guest goes on without its active file. */
  onReady: () => Promise<void>;
}

export class DiskLayers {
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async switch(
    context: CommandContext,
    id: string,
    overlays: readonly DiskOverlay[],
    options: SwitchOptions,
  ): Promise<void> {
    const domain = await ownDomain(context, id);
    if (await isDown(domain, context.limits)) throw illegal(id, 'it does not run');
    const disks = disksOf(await liveXml(domain, context));
    if (overlays.every((overlay) => diskOf(disks, overlay).path === overlay.path)) return;
    if (options.quiesce && (await isPaused(domain, context.limits))) throw pausedAgent(id);
    const text = snapshotXml(disks, overlays, options.memoryPath);
    await domain.snapshotCreateXML(text, flagsOf(options), context.limits.next()).catch((error: unknown) => {
      throw explain(error, id, options);
    });
  }

  async chain(context: CommandContext, id: string, serial: string): Promise<string[] | null> {
    const domain = await ownDomain(context, id);
    if (await isDown(domain, context.limits)) return null;
    return disksOf(await liveXml(domain, context)).find((disk) => disk.serial === serial)?.chain ?? null;
  }

  async merge(
    context: CommandContext,
    id: string,
    merge: DiskMerge,
    listeners: MergeListeners,
  ): Promise<void> {
    const domain = await ownDomain(context, id);
    if (await isDown(domain, context.limits)) return;
    const { chain, target } = await thatDisk(domain, context, merge.serial);
    const at = chain.indexOf(merge.path);
    if (at < 0) return;
    if (chain[at + 1] !== merge.into)
      throw new AgentError('HOST_CONFLICT', `${merge.path} does not stand on ${merge.into} in guest ${id}`);
    await this.#ensureJob(context, domain, { ...merge, target, isActive: at === 0 });
    try {
      await this.#untilMerged(context, domain, { ...merge, target, isActive: at === 0 }, listeners);
    } catch (error) {
      await endJob(domain, target);
      throw error;
    }
  }

  async resume({ connection, limits }: CommandContext, id: string, memoryPath: string): Promise<void> {
    const domain = await ownDomain({ connection, limits }, id);
    if (!(await isDown(domain, limits))) return;
    const [kept, saved] = await Promise.all([
      domain.getXMLDesc(KEPT, limits.next()),
      connection.domainSaveImageGetXMLDesc(memoryPath, 0, limits.next()),
    ]);
    await connection.domainRestoreFlags(memoryPath, withDisksOf(saved, kept, id), RUNNING, limits.next());
  }

  async #ensureJob(context: CommandContext, domain: Domain, merge: RunningMerge): Promise<void> {
    const { target, into, path, isActive, bytesPerSecond = 0 } = merge;
    const job = await jobOn(domain, context, target);
    if (job !== null) return checkCommit(job.type, domain, merge);
    const flags =
      COMMIT.VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES | (isActive ? COMMIT.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE : 0);
    await domain.blockCommit(target, into, path, bytesPerSecond, flags, context.limits.next());
  }

  /** A merge of the active file waits, when all is copied, to be told to go on with the other one. */
  async #untilMerged(
    context: CommandContext,
    domain: Domain,
    merge: RunningMerge,
    { onProgress, onReady }: MergeListeners,
  ): Promise<void> {
    for (;;) {
      const job = await jobOn(domain, context, merge.target);
      if (job === null) return this.#checkMerged(context, domain, merge);
      const { cur, end } = job;
      onProgress(Number(cur), Number(end), 'merging');
      if (merge.isActive && cur === end && end > 0n) {
        await onReady();
        await this.#pivot(context, domain, merge.target);
      }
      await pause(context, this.#clock);
    }
  }

  /** All may be copied a moment before the job says so: it is then asked again. */
  async #pivot({ limits }: CommandContext, domain: Domain, target: string): Promise<void> {
    await domain.blockJobAbort(target, PIVOT, limits.next()).catch((error: unknown) => {
      const isEarly =
        isLibvirtError(error, 'VIR_ERR_BLOCK_COPY_ACTIVE') ||
        isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID');
      if (!isEarly) throw error;
    });
  }

  async #checkMerged(context: CommandContext, domain: Domain, { serial, path }: RunningMerge): Promise<void> {
    if (await isDown(domain, context.limits))
      throw illegal(domain.uuid, 'it stopped before its disk was merged');
    const { chain } = await thatDisk(domain, context, serial);
    if (!chain.includes(path)) return;
    throw new AgentError('UNAVAILABLE', `QEMU has not merged ${path} in guest ${domain.uuid}`, {
      hint: 'See the log of the guest in libvirt; the pool may be full.',
    });
  }
}

interface RunningMerge extends DiskMerge {
  target: string;
  isActive: boolean;
}

function checkCommit(type: number, domain: Domain, { serial }: RunningMerge): void {
  const isCommit =
    type === JOB.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT || type === JOB.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT;
  if (isCommit) return;
  throw new AgentError('HOST_CONFLICT', `Disk ${serial} of guest ${domain.uuid} has another job of QEMU`, {
    hint: 'Wait until it is done, or end it: virsh blockjob.',
  });
}

/** @throws {AgentError} NOT_FOUND: the guest runs without such a disk. */
function diskOf(disks: readonly LiveDisk[], { serial }: DiskOverlay): LiveDisk {
  const disk = disks.find((each) => each.serial === serial);
  if (disk !== undefined) return disk;
  throw new AgentError('NOT_FOUND', `The guest runs without a disk ${serial}`);
}

function flagsOf({ quiesce, memoryPath }: SwitchOptions): number {
  const quiet = quiesce ? SNAPSHOT.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE : 0;
  return SWITCH_FLAGS | quiet | (memoryPath === null ? SNAPSHOT.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY : 0);
}

function snapshotXml(
  disks: readonly LiveDisk[],
  overlays: readonly DiskOverlay[],
  memoryPath: string | null,
): string {
  const elements = disks.map((disk) => {
    const overlay = overlays.find(({ serial }) => serial === disk.serial);
    return overlay === undefined || disk.path === overlay.path
      ? xml('disk', { name: disk.target, snapshot: 'no' })
      : overlayXml(disk.target, overlay);
  });
  const memory = memoryPath === null ? [] : [xml('memory', { snapshot: 'external', file: memoryPath })];
  return writeXml(xml('domainsnapshot', {}, [...memory, xml('disks', {}, elements)]));
}

function overlayXml(target: string, { path, encryption }: DiskOverlay): XmlNode {
  return xml('disk', { name: target, snapshot: 'external', type: 'file' }, [
    xml('driver', { type: 'qcow2' }),
    xml('source', { file: path }, encryptionXml(encryption)),
  ]);
}

function explain(error: unknown, id: string, { quiesce }: SwitchOptions): unknown {
  const message = String((error as Error).message);
  if (NO_ROOM.test(message))
    return new AgentError('CAPACITY_EXCEEDED', `There is no room for the memory of guest ${id}`, {
      cause: error,
    });
  if (!quiesce || !isAgentError(error)) return error;
  return new AgentError('UNAVAILABLE', `The agent in guest ${id} has not frozen its file systems`, {
    cause: error,
    hint: 'Install and start qemu-guest-agent in the guest, or ask for a snapshot that is not quiesced.',
  });
}
