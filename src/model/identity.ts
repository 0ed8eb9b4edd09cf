/**
 * The node's identity towards its scheduler, as callers see it: what can be told of it, never the key.
 */
import { nullable, Sha256, strict, timestampOf } from './common.ts';
import { type Static, Type } from './schema.ts';

export const NodeIdentity = strict({
  enrolled: Type.Boolean({ description: 'it has a certificate of a scheduler that it was enrolled at' }),
  scheduler: nullable(Type.String(), 'address of that scheduler'),
  authority: nullable(
    Sha256,
    "SHA-256 of the certificate of the scheduler's authority, which alone is trusted",
  ),
  serial: nullable(Type.String(), 'of the certificate, hexadecimal'),
  notAfter: nullable(timestampOf('when the certificate runs out')),
  renewAt: nullable(timestampOf('when it is renewed: at two thirds of its life')),
  renewing: Type.Boolean({
    description: 'the next certificate is there, and has not been shown with success yet',
  }),
  problem: nullable(Type.String({ description: 'what keeps it from being enrolled or renewed' })),
});
export type NodeIdentity = Static<typeof NodeIdentity>;
