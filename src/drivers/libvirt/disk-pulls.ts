/**
 * Pulls: a disk of a guest that runs gets all data of the file that it stands on, by QEMU's block job.
 *
 * libvirt and QEMU go on with such a job without us, and without each other: so one that is there already is taken up,
 * and how it has ended is seen by what the disk stands on afterwards, not by the job.
 *
 * @see virDomainBlockPull, virDomainGetBlockJobInfo, libvirt-domain.h
 */
import { constants, type Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { FlattenOptions } from '../contracts/hypervisor.ts';
import { endJob, jobOn, pause } from './block-jobs.ts';
import { liveDisk, type LiveDisk, thatDisk } from './live-disks.ts';
import {
  checkOurs,
  type CommandContext,
  findDomain,
  foreign,
  illegal,
  isDown,
  ownDomain,
} from './own-domain.ts';

const { VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: PULL } = constants.virDomainBlockJobType;
const { VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES: IN_BYTES } = constants.virDomainBlockPullFlags;
const { VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES: SPEED_IN_BYTES } =
  constants.virDomainBlockJobSetSpeedFlags;

export class DiskPulls {
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async pull(context: CommandContext, id: string, serial: string, options: FlattenOptions): Promise<void> {
    const { bytesPerSecond = null, onProgress = () => undefined } = options;
    const domain = await ownDomain(context, id);
    if (await isDown(domain, context.limits)) throw illegal(id, 'it does not run');
    const disk = await thatDisk(domain, context, serial);
    const { target } = disk;
    if (isFlat(disk)) return;
    await this.#begin(context, domain, target, bytesPerSecond ?? 0);
    for (;;) {
      const job = await jobOn(domain, context, target);
      if (job === null) break;
      onProgress(Number(job.cur), Number(job.end) || null, 'copying');
      await pause(context, this.#clock);
    }
    await checkFlat(context, domain, serial);
  }

  async stop(context: CommandContext, id: string, serial: string): Promise<void> {
    const domain = await findDomain(context, id);
    if (domain === null) return;
    await checkOurs(domain, context.limits);
    if (await isDown(domain, context.limits)) return;
    const disk = await liveDisk(domain, context, serial);
    if (disk === null || (await jobOn(domain, context, disk.target))?.type !== PULL) return;
    await endJob(domain, disk.target, context.limits.next());
  }

  /** @param bytesPerSecond 0 for as fast as it can. */
  async #begin(
    context: CommandContext,
    domain: Domain,
    target: string,
    bytesPerSecond: number,
  ): Promise<void> {
    const job = await jobOn(domain, context, target);
    if (job === null) {
      await domain.blockPull(target, bytesPerSecond, IN_BYTES, context.limits.next());
      return;
    }
    if (job.type !== PULL)
      throw foreign(`Another job is under way on disk ${target} of guest ${domain.uuid}`);
    await domain.blockJobSetSpeed(target, bytesPerSecond, SPEED_IN_BYTES, context.limits.next());
  }
}

/** @throws {AgentError} UNAVAILABLE, so that it is tried again by what the host is then. */
async function checkFlat(context: CommandContext, domain: Domain, serial: string): Promise<void> {
  const failed = (reason: string) =>
    new AgentError(
      'UNAVAILABLE',
      `Disk ${serial} of guest ${domain.uuid} does not have all its data: ${reason}`,
    );
  if (await isDown(domain, context.limits)) throw failed('the guest stopped meanwhile');
  if (!isFlat(await thatDisk(domain, context, serial)))
    throw failed('the job ended before; the log of QEMU may say why');
}

/** Whether it stands on no other file. */
function isFlat({ chain }: LiveDisk): boolean {
  return chain.length === 1;
}
