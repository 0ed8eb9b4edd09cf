/** Methods of reservations. They touch nothing on the host: each is one commit, and no operation. */
import { Fence, Id, strict } from '../common.ts';
import { type Method, none, read } from '../method.ts';
import { Reservation, ReservationNote, ReservationSeconds, ReservedResources } from '../reservation.ts';
import { Type } from '../schema.ts';

const one = strict({ reservation: Reservation });

export const RESERVATION_METHODS = {
  'reservation.list': read(
    'List the reservations, those first that expire first.',
    none,
    strict({ reservations: Type.Array(Reservation) }),
  ),
  'reservation.create': {
    ...read(
      'Keep room free for a while. Repeated with the same id it answers with the first one.',
      strict({
        id: Type.Optional({ ...Id, description: 'UUID to give it, lower case; by it a repeat is known' }),
        resources: ReservedResources,
        seconds: ReservationSeconds,
        note: Type.Optional(ReservationNote),
        epoch: Fence.epoch,
      }),
      one,
    ),
    role: 'operate',
    changes: true,
  },
  'reservation.release': {
    ...read(
      'Free the room of a reservation before its time; one that is gone is released already.',
      strict({ id: Id, epoch: Fence.epoch }),
      strict({ released: Type.Boolean({ description: 'false where there was none' }) }),
    ),
    role: 'operate',
    changes: true,
  },
} as const satisfies Record<string, Method>;
