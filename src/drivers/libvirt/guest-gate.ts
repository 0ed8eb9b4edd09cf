/**
 * Keeps calls about a guest that hangs from taking up what calls about other guests need.
 *
 * Theory of operation: libvirt answers a call to a stuck QEMU late or never, and each such call holds one of the few
 * places that a connection has. So a call that misses its deadline stays known here until libvirt has answered it,
 * and meanwhile further calls of this kind about that guest are refused at once. Destroying is no such call: it is
 * the way out.
 */
import { AgentError } from '../../model/errors.ts';
import type { CallNature } from './errors.ts';
import type { CallLimits } from './limits.ts';

/** Node.js cannot wait longer, and libvirt's client takes it for "no limit". */
const NO_LIMIT = { timeoutMs: Infinity };

export class GuestGate {
  readonly #overdue = new Map<string, number>();

  /**
   * @param call Makes the call without a limit of its own.
   * @throws {AgentError} UNAVAILABLE: an earlier call about this guest has not been answered yet. When time runs out,
   *   what `nature` says (errors.ts).
   */
  async run<T>(
    id: string,
    limits: CallLimits,
    nature: CallNature,
    call: (options: { timeoutMs: number }) => Promise<T>,
  ): Promise<T> {
    if (this.#overdue.has(id)) {
      throw new AgentError('UNAVAILABLE', `Guest ${id} hangs: an earlier call about it is not answered yet`, {
        hint: 'Wait, or stop it by force.',
      });
    }
    const answer = call(NO_LIMIT);
    let isSettled = false;
    const settle = () => {
      isSettled = true;
    };
    const settled = answer.then(settle, settle);
    try {
      return await limits.wait(answer, nature);
    } finally {
      if (!isSettled) this.#watch(id, settled);
    }
  }

  #watch(id: string, settled: Promise<void>): void {
    this.#overdue.set(id, (this.#overdue.get(id) ?? 0) + 1);
    void settled.then(() => {
      const left = (this.#overdue.get(id) ?? 1) - 1;
      if (left === 0) this.#overdue.delete(id);
      else this.#overdue.set(id, left);
    });
  }
}
