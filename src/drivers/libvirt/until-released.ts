/**
 * A device is taken from a guest that runs: asked for, and asked for again, until the guest has let it go.
 */
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import { isLibvirtError } from './errors.ts';
import type { CommandContext } from './own-domain.ts';

/** How often it is looked whether the guest has let a device go, and asked again to. Milliseconds. */
const LOOK_MS = 100;
const ASK_AGAIN_MS = 5_000;

export interface Release {
  context: CommandContext;
  clock: Clock;
  /** Looks at the running guest. */
  isGone(): Promise<boolean>;
  /** Asks the guest once. */
  release(): Promise<void>;
  /** Whose it is, and what, for messages. */
  what: string;
  thing: 'disk' | 'share';
}

/** @throws {AgentError} DEADLINE_EXCEEDED: the guest still has it. */
export async function untilReleased(parts: Release): Promise<void> {
  const { what, thing } = parts;
  try {
    await untilGone(parts);
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'DEADLINE_EXCEEDED') throw error;
    throw new AgentError('DEADLINE_EXCEEDED', `${what} has not let the ${thing} go, and still has it`, {
      hint: 'Unmount it in the guest and try again, or stop the guest.',
      cause: error,
    });
  }
}

/** A guest that boots may miss the request: it is asked again, and what a later request meets is no news. */
async function untilGone({ context, clock, isGone, release }: Release): Promise<void> {
  if (await isGone()) return;
  await release().catch(throwUnlessMissing);
  let askedAtMs = clock.monotonicMs();
  while (!(await isGone())) {
    if (clock.monotonicMs() - askedAtMs > ASK_AGAIN_MS) {
      askedAtMs = clock.monotonicMs();
      await release().catch(throwUnlessRefused);
    }
    const pause = new Promise<void>((resolve) => void clock.after(LOOK_MS, resolve));
    await context.limits.wait(pause, 'command');
  }
}

/** It has gone between the look and the request. */
function throwUnlessMissing(error: unknown): void {
  if (!isLibvirtError(error, 'VIR_ERR_DEVICE_MISSING')) throw error;
}

/** libvirt has answered and refused. */
function throwUnlessRefused(error: unknown): void {
  const isRefused =
    isLibvirtError(error, 'VIR_ERR_INTERNAL_ERROR') || isLibvirtError(error, 'VIR_ERR_OPERATION_FAILED');
  if (!isRefused) throwUnlessMissing(error);
}
