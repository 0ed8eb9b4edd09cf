/**
 * Freezing and thawing the file systems of guests, through the agent in them.
 *
 * A guest that stays frozen hangs. So one whose answer comes after our time is thawed by whoever waits for that answer; and
 * where this process is killed in between, the next one thaws it (agent/backups/quiesce.ts).
 *
 * @see virDomainFSFreeze, virDomainFSThaw, libvirt-domain.h
 */
import { AgentError } from '../../model/errors.ts';
import { isAgentError } from './errors.ts';
import { GuestGate } from './guest-gate.ts';
import {
  checkOurs,
  type CommandContext,
  findDomain,
  illegal,
  isDown,
  isPaused,
  ownDomain,
} from './own-domain.ts';

export class GuestQuiet {
  /** An agent that hangs keeps only calls to itself. */
  readonly #gate = new GuestGate();

  async freeze(context: CommandContext, id: string): Promise<void> {
    const { limits } = context;
    const domain = await ownDomain(context, id);
    if (await isDown(domain, limits)) throw illegal(id, 'it does not run');
    if (await isPaused(domain, limits)) throw pausedAgent(id);
    let isLate = false;
    try {
      await this.#gate.run(id, limits, 'command', async (options) => {
        await domain.fsFreeze([], 0, options);
        if (isLate) await domain.fsThaw([], 0, options);
      });
    } catch (error) {
      isLate = true;
      throw explain(error, id);
    }
  }

  async thaw(context: CommandContext, id: string): Promise<boolean> {
    const { limits } = context;
    const domain = await findDomain(context, id);
    if (domain === null) return true;
    await checkOurs(domain, limits);
    if (await isDown(domain, limits)) return true;
    if (await isPaused(domain, limits)) return false;
    try {
      await this.#gate.run(id, limits, 'command', (options) => domain.fsThaw([], 0, options));
      return true;
    } catch (error) {
      if (isAgentError(error)) return false;
      throw error;
    }
  }
}

/** A guest that is paused writes nothing: what it has not flushed is missing from its disks all the same. */
export function pausedAgent(id: string): AgentError {
  return new AgentError('UNAVAILABLE', `Guest ${id} is paused: its agent can freeze no file systems`, {
    hint: 'Resume it first, or ask for it without.',
  });
}

function explain(error: unknown, id: string): unknown {
  const isSilent = error instanceof AgentError && error.code === 'DEADLINE_EXCEEDED';
  if (!isSilent && !isAgentError(error)) return error;
  return new AgentError('UNAVAILABLE', `The agent in guest ${id} has not frozen its file systems`, {
    cause: error,
    hint: 'Install and start qemu-guest-agent in the guest, or ask for it without.',
  });
}
