/**
 * Refusals: why each node did not take an instance, and the one error that comes of all of them. Pure.
 */
import { AgentError, type ErrorCode } from '../../model/errors.ts';

/** Nodes named in an error; a reader learns nothing from more. */
const LISTED_LIMIT = 100;

/** One node's no. */
export interface Refusal {
  node: string;
  hostname: string;
  code: ErrorCode;
  reason: string;
}

/** Codes with which one node refuses what another may take. */
const ELSEWHERE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_FOUND', // the image, volume or network is not on this node
  'CAPACITY_EXCEEDED',
  'LIMIT_REACHED',
  'UNAVAILABLE',
  'IMAGE_REFUSED',
  'HOST_CONFLICT',
  'UNSUPPORTED',
]);

export function mayFitElsewhere(code: ErrorCode): boolean {
  return ELSEWHERE.has(code);
}

/** The error where all said no: their code where it is one, CAPACITY_EXCEEDED where they differ. */
export function noNodeFits(name: string, refusals: readonly Refusal[]): AgentError {
  if (refusals.length === 0) {
    return new AgentError('UNAVAILABLE', `Cannot place ${name}: no node has connected yet`, {
      hint: 'Start berthd on a host and point it to this scheduler.',
    });
  }
  const codes = new Set(refusals.map((refusal) => refusal.code));
  const code = codes.size === 1 ? ([...codes][0] as ErrorCode) : 'CAPACITY_EXCEEDED';
  const listed = refusals.slice(0, LISTED_LIMIT);
  const reasons = listed.map((refusal) => `${refusal.hostname}: ${refusal.reason}`).join('; ');
  const more = refusals.length > listed.length ? `; and ${refusals.length - listed.length} more` : '';
  return new AgentError(code, `No node takes ${name}: ${reasons}${more}`, { details: { nodes: listed } });
}
