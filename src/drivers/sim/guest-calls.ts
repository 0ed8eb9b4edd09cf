/** The way of the calls of a simulated hypervisor: closed or not, whose guest it is, and what it is refused with. */
import { AgentError } from '../../model/errors.ts';
import type { CallOptions } from '../contracts/calls.ts';
import { type Attachment, type CallRequest, Calls } from './call.ts';
import type { CallName } from './faults.ts';
import type { SimGuest } from './state.ts';
import type { SimWorld } from './world.ts';

type GuestCall = Extract<CallName, `hypervisor.${string}`>;

export abstract class GuestCalls {
  protected readonly world: SimWorld;
  protected isClosed = false;
  readonly #calls: Calls;

  constructor(world: SimWorld, attachment: Attachment) {
    this.world = world;
    this.#calls = new Calls(world, 'hypervisor', attachment);
  }

  protected ask<T>(
    name: GuestCall,
    id: string | null,
    options: CallOptions | undefined,
    act: () => T,
  ): Promise<T> {
    return this.run({ name, id, options, nature: 'question' }, act);
  }

  /** A call that changes a guest of ours, or finds none. */
  protected change<T>(
    name: GuestCall,
    id: string,
    options: CallOptions | undefined,
    act: (guest: SimGuest | null) => T,
  ): Promise<T> {
    return this.run({ name, id, options }, () => {
      const guest = this.world.guests.get(id) ?? null;
      if (guest !== null && guest.definition === null) throw foreign(guest);
      this.world.touch();
      return act(guest);
    });
  }

  protected async run<T>(request: CallRequest, act: () => T): Promise<T> {
    if (this.isClosed) throw new AgentError('UNAVAILABLE', `${request.name}: the connection is closed`);
    return this.#calls.run(request, act);
  }
}

export function there(guest: SimGuest | null, id: string): SimGuest {
  if (guest === null) throw new AgentError('NOT_FOUND', `No guest ${id} on this host`);
  return guest;
}

export function illegal(guest: SimGuest, reason: string): AgentError {
  return new AgentError('ILLEGAL_STATE', `Not possible for guest ${guest.id}: ${reason}`);
}

export function foreign(guest: SimGuest): AgentError {
  return new AgentError('HOST_CONFLICT', `Guest ${guest.name} (${guest.id}) was not defined by Berth`, {
    hint: 'Leave it, or let an operator remove it.',
  });
}
