/**
 * Copies of the disks of a guest that runs, by libvirt's backup jobs.
 *
 * QEMU keeps what the guest overwrites until it is copied, so that all disks are of the moment at which the job began. A
 * checkpoint is made in that same moment. A guest has one such job at most; the job goes on without us, so one that a
 * crash has left is ended before a new one.
 *
 * The files are there before: while QEMU makes a qcow2 file itself, it aborts where it is asked for its block nodes, and
 * libvirt asks for them with the usage of all guests. @see qcow2_get_specific_info, QEMU 7.2
 *
 * @see formatbackup.html; virDomainBackupBegin, libvirt-domain.h
 */
import { constants, type Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CopyOptions, DiskCopies as CopyRequest, DiskCopy } from '../contracts/hypervisor.ts';
import type { KeyOfVolume } from '../contracts/keys.ts';
import type { Checkpoints } from './checkpoints.ts';
import { checkOurs, type CommandContext, findDomain, illegal, isDown, ownDomain } from './own-domain.ts';
import { disksOf, type LiveDisk, liveXml } from './live-disks.ts';
import { isLibvirtError } from './errors.ts';
import { encryptionXml } from './secrets.ts';
import { writeXml, xml } from './xml.ts';

/** How often it is looked how far a job has come, milliseconds. */
const LOOK_MS = 200;

const TYPE = constants.virDomainJobType;
const { VIR_DOMAIN_JOB_OPERATION_BACKUP: BACKUP } = constants.virDomainJobOperation;
const { VIR_DOMAIN_JOB_STATS_COMPLETED: COMPLETED } = constants.virDomainGetJobStatsFlags;
const { VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES: IN_BYTES } = constants.virDomainBlockJobSetSpeedFlags;
const { VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL: REUSE } = constants.virDomainBackupBeginFlags;
const NO_ROOM = /No space left on device|Disk quota exceeded/;

export class DiskCopies {
  readonly #clock: Clock;
  readonly #checkpoints: Checkpoints;

  constructor(clock: Clock, checkpoints: Checkpoints) {
    this.#clock = clock;
    this.#checkpoints = checkpoints;
  }

  async copy(
    context: CommandContext,
    id: string,
    request: CopyRequest,
    { onProgress = () => undefined, onMoment = async () => undefined }: CopyOptions,
  ): Promise<void> {
    const domain = await ownDomain(context, id);
    if (await isDown(domain, context.limits)) throw illegal(id, 'it does not run');
    await this.#end(context, domain);
    const { checkpoint } = request;
    if (checkpoint !== undefined) await this.#checkpoints.forget(context, id, { names: [checkpoint] });
    const disks = chosen(disksOf(await liveXml(domain, context)), request.copies);
    await begin(context, domain, disks, request);
    try {
      await onMoment();
      if (request.bytesPerSecond !== undefined) await limit(context, domain, disks, request.bytesPerSecond);
      await this.#untilDone(context, domain, onProgress);
    } catch (error) {
      await this.#abort(domain);
      throw error;
    }
    await checkOutcome(context, domain);
  }

  async stop(context: CommandContext, id: string): Promise<void> {
    const domain = await findDomain(context, id);
    if (domain === null) return;
    await checkOurs(domain, context.limits);
    if (!(await isDown(domain, context.limits))) await this.#end(context, domain);
  }

  async #end(context: CommandContext, domain: Domain): Promise<void> {
    if (!(await isCopying(context, domain))) return;
    await this.#abort(domain);
    while (await isCopying(context, domain)) await this.#pause(context);
  }

  /** When its caller's time is over, too. What ended meanwhile needs no end. */
  async #abort(domain: Domain): Promise<void> {
    await domain.abortJob().catch((error: unknown) => {
      if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
    });
  }

  async #untilDone(context: CommandContext, domain: Domain, onProgress: ProgressListener): Promise<void> {
    for (;;) {
      const { type, params } = await domain.getJobStats(0, context.limits.next());
      if (type === TYPE.VIR_DOMAIN_JOB_NONE || params['operation'] !== BACKUP) return;
      onProgress(Number(params['disk_processed'] ?? 0), Number(params['disk_total'] ?? 0) || null, 'writing');
      await this.#pause(context);
    }
  }

  async #pause({ limits }: CommandContext): Promise<void> {
    await limits.wait(new Promise<void>((resolve) => void this.#clock.after(LOOK_MS, resolve)), 'command');
  }
}

/** A disk of the guest; null for the file to make where it is not copied. */
type ChosenDisk = LiveDisk & { path: string | null; encryption: KeyOfVolume | null };

async function begin(
  { limits }: CommandContext,
  domain: Domain,
  disks: readonly ChosenDisk[],
  { since, checkpoint }: CopyRequest,
): Promise<void> {
  const text = writeXml(backupXml(disks, since));
  const moment = checkpoint === undefined ? null : writeXml(checkpointXml(disks, checkpoint));
  try {
    await domain.backupBegin(text, moment, REUSE, limits.next());
  } catch (error) {
    const isLost =
      isLibvirtError(error, 'VIR_ERR_CHECKPOINT_INCONSISTENT') ||
      isLibvirtError(error, 'VIR_ERR_NO_DOMAIN_CHECKPOINT');
    if (!isLost) throw error;
    const what = `What has changed of guest ${domain.uuid} since ${since} is not known`;
    throw new AgentError('DATA_DAMAGED', what, { cause: error });
  }
}

/** Each disk has a job of its own, and gets its part. */
async function limit(
  { limits }: CommandContext,
  domain: Domain,
  disks: readonly ChosenDisk[],
  bytesPerSecond: number,
): Promise<void> {
  const copied = disks.filter(({ path }) => path !== null);
  const share = Math.max(1, Math.floor(bytesPerSecond / copied.length));
  for (const { target } of copied) {
    try {
      await domain.blockJobSetSpeed(target, share, IN_BYTES, limits.next());
    } catch (error) {
      // It is copied already: QEMU has no such job any more, or one that has concluded.
      const { found } = await domain.getBlockJobInfo(target, 0, limits.next());
      if (found !== 0 && !/concluded|not found/.test(String((error as Error).message))) throw error;
    }
  }
}

async function isCopying({ limits }: CommandContext, domain: Domain): Promise<boolean> {
  const { type, params } = await domain.getJobStats(0, limits.next());
  return type !== TYPE.VIR_DOMAIN_JOB_NONE && params['operation'] === BACKUP;
}

/** @throws {AgentError} How the job ended that did not copy all. */
async function checkOutcome({ limits }: CommandContext, domain: Domain): Promise<void> {
  if (await isDown(domain, limits)) throw illegal(domain.uuid, 'it stopped before its disks were copied');
  const { type, params } = await domain.getJobStats(COMPLETED, limits.next());
  if (type === TYPE.VIR_DOMAIN_JOB_COMPLETED && params['success'] === true) return;
  const reason = String(params['errmsg'] ?? 'libvirt does not say why');
  const code = NO_ROOM.test(reason) ? 'CAPACITY_EXCEEDED' : 'UNAVAILABLE';
  throw new AgentError(code, `The disks of guest ${domain.uuid} were not copied: ${reason}`);
}

/** @throws {AgentError} NOT_FOUND: the guest runs without such a disk. */
function chosen(disks: readonly LiveDisk[], copies: readonly DiskCopy[]): ChosenDisk[] {
  const missing = copies.find(({ serial }) => !disks.some((disk) => disk.serial === serial));
  if (missing !== undefined)
    throw new AgentError('NOT_FOUND', `The guest runs without a disk ${missing.serial}`);
  return disks.map((disk) => {
    const copy = copies.find(({ serial }) => serial === disk.serial);
    return { ...disk, path: copy?.path ?? null, encryption: copy?.encryption ?? null };
  });
}

function backupXml(disks: readonly ChosenDisk[], since: string | undefined) {
  const elements = disks.map(({ path, target, encryption }) => {
    if (path === null) return xml('disk', { name: target, backup: 'no' });
    return xml('disk', { name: target, backup: 'yes', type: 'file' }, [
      xml('target', { file: path }, encryptionXml(encryption)),
      xml('driver', { type: 'qcow2' }),
    ]);
  });
  const incremental = since === undefined ? [] : [xml('incremental', {}, since)];
  return xml('domainbackup', { mode: 'push' }, [...incremental, xml('disks', {}, elements)]);
}

function checkpointXml(disks: readonly ChosenDisk[], name: string) {
  const elements = disks.map(({ path, target }) =>
    xml('disk', { name: target, checkpoint: path === null ? 'no' : 'bitmap' }),
  );
  return xml('domaincheckpoint', {}, [xml('name', {}, name), xml('disks', {}, elements)]);
}
