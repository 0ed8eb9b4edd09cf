/**
 * Enrolment and revocation of nodes. POST /v1/enrol is open: its secret is the proof.
 */
import { Id, Timestamp, strict } from '../../../model/common.ts';
import { ENROL_PATH, EnrolRequest, IssuedCertificate } from '../../../model/enrolment.ts';
import { AgentError } from '../../../model/errors.ts';
import { Type } from '../../../model/schema.ts';
import type { Enrolment } from '../../ca/enrolment.ts';
import { CLOSE } from '../../gateway/close-codes.ts';
import type { Links } from '../../gateway/link-table.ts';
import { NodeParam } from '../parameters.ts';
import { type Route, route } from '../route.ts';

/** Seconds. */
const TTL_DEFAULT = 3_600;
const TTL_MAX = 30 * 86_400;

export interface TrustRouteParts {
  /** Null where the scheduler is no authority. */
  enrolment: Enrolment | null;
  links: Links;
  /** The id of a node that is known by its id or hostname. @throws {AgentError} NOT_FOUND */
  idOf(node: string): string;
}

export function trustRoutes(parts: TrustRouteParts): Route[] {
  return [enrolRoute(parts), tokenRoute(parts), revokeRoute(parts)];
}

function enrolRoute(parts: TrustRouteParts): Route {
  return route({
    method: 'POST',
    path: ENROL_PATH,
    summary: 'Exchange the secret of an enrolment token and a certificate request for a certificate.',
    isOpen: true,
    body: EnrolRequest,
    result: IssuedCertificate,
    handle: ({ body }) => ({ certificate: authorityOf(parts).enrol(body) }),
  });
}

function tokenRoute(parts: TrustRouteParts): Route {
  return route({
    method: 'POST',
    path: '/v1/enrolment-tokens',
    summary: 'Make a token that enrols one node once; it is told here and never again.',
    body: strict({
      ttlSeconds: Type.Integer({ minimum: 10, maximum: TTL_MAX, default: TTL_DEFAULT }),
      node: Type.Optional({ ...Id, description: 'the node that it is for; one that is known needs that' }),
    }),
    result: strict({ token: Type.String(), expiresAt: Timestamp }),
    handle: ({ body }) => {
      const asked = { ttlMs: body.ttlSeconds * 1000, nodeId: body.node ?? null };
      const { token, expiresAt } = authorityOf(parts).createToken(asked);
      return { token, expiresAt: new Date(expiresAt).toISOString() };
    },
  });
}

function revokeRoute(parts: TrustRouteParts): Route {
  return route({
    method: 'POST',
    path: '/v1/nodes/{node}/revoke',
    summary: 'Revoke all certificates of a node, and close its link.',
    params: strict({ node: NodeParam }),
    result: strict({
      node: Id,
      revoked: Type.Integer({ description: 'certificates that were good until now' }),
    }),
    handle: ({ params }) => {
      const node = parts.idOf(params.node);
      const revoked = authorityOf(parts).revoke(node);
      parts.links.session(node)?.close(CLOSE.revoked);
      return { node, revoked };
    },
  });
}

function authorityOf({ enrolment }: TrustRouteParts): Enrolment {
  if (enrolment !== null) return enrolment;
  throw new AgentError('UNSUPPORTED', 'This scheduler is no certificate authority', {
    hint: 'Start it with --ca, or make the certificates of nodes with your own authority.',
  });
}
