/** What both ends of a link hold to, from the hello on: features, and how much each takes. */
import {
  commonFeatures,
  EVENTS_IN_FLIGHT_LIMIT,
  MESSAGE_BYTES_LIMIT,
  PROTOCOL_VERSION,
  REQUESTS_IN_FLIGHT_LIMIT,
} from '../../model/link.ts';
import type { Hello, HelloResult } from '../../model/wire.ts';

/** What is sent to an agent at most. */
export interface SendLimits {
  messageBytes: number;
  requests: number;
}

/** What any agent takes. */
export const DEFAULT_LIMITS: SendLimits = {
  messageBytes: MESSAGE_BYTES_LIMIT,
  requests: REQUESTS_IN_FLIGHT_LIMIT,
};

export function limitsOf({ limits }: NonNullable<Hello['link']>): SendLimits {
  return {
    messageBytes: Math.min(limits.messageBytes, DEFAULT_LIMITS.messageBytes),
    requests: Math.min(limits.requests, DEFAULT_LIMITS.requests),
  };
}

/** What this side speaks and takes, of what the agent offers. */
export function termsOf(
  offer: NonNullable<Hello['link']>,
  { lastAt, fences }: { lastAt: string | null; fences: number },
): NonNullable<HelloResult['link']> {
  return {
    version: PROTOCOL_VERSION,
    limits: { ...DEFAULT_LIMITS, events: EVENTS_IN_FLIGHT_LIMIT },
    features: commonFeatures(offer.features),
    lastAt,
    ...(fences > 0 && { fences }),
  };
}
