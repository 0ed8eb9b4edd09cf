/**
 * Block jobs of QEMU, as libvirt tells them: a disk of a guest that runs has one at most, which goes on without us.
 */
import type { Domain } from 'node-libvirt';
import type { Clock } from '../contracts/clock.ts';
import { isLibvirtError } from './errors.ts';
import type { CommandContext } from './own-domain.ts';

/** How often it is looked how far a job has come, milliseconds. */
const LOOK_MS = 100;

/** Null where there is none. A guest that has gone down has none. */
export async function jobOn(domain: Domain, context: CommandContext, target: string) {
  try {
    return await askJob(domain, context, target);
  } catch (error) {
    // QEMU has gone in the middle of the question: asked again, libvirt knows.
    if (isLibvirtError(error, 'VIR_ERR_SYSTEM_ERROR')) return askJob(domain, context, target);
    throw error;
  }
}

async function askJob(domain: Domain, { limits }: CommandContext, target: string) {
  try {
    const job = await domain.getBlockJobInfo(target, 0, limits.next());
    return job.found === 0 ? null : job;
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) return null;
    throw error;
  }
}

/** @param limits @default none: also when its caller's time is over. What ended meanwhile needs no end. */
export async function endJob(domain: Domain, target: string, limits?: { timeoutMs: number }): Promise<void> {
  await domain.blockJobAbort(target, 0, limits).catch((error: unknown) => {
    if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
  });
}

/** Until the next look. */
export async function pause({ limits }: CommandContext, clock: Clock): Promise<void> {
  await limits.wait(new Promise<void>((resolve) => void clock.after(LOOK_MS, resolve)), 'command');
}
