/** Slots of a running guest, of which each device that is plugged in takes one. */
import { AgentError } from '../../model/errors.ts';

/** libvirt's words where each slot of a guest has its device. @see qemuDomainPCIAddress…, domain_addr.c */
const NO_SLOT = /No more available PCI slots/;

/** What an error of plugging in means. @param thing What was plugged in, for the message */
export function explainPlug(error: unknown, id: string, thing: 'disk' | 'share'): unknown {
  if (!NO_SLOT.test(String((error as Error).message))) return error;
  const message = `Guest ${id} has no free slot for another ${thing} while it runs`;
  return new AgentError('CAPACITY_EXCEEDED', message, {
    hint: 'Stop it and start it again: it then gets more slots.',
    cause: error,
  });
}
