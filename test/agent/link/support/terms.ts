/** What a scheduler of this version answers to the `link` of a hello. */
import { FEATURES, type LinkTerms, PROTOCOL_VERSION } from '../../../../src/model/link.ts';

export function terms(change: Partial<LinkTerms> = {}): LinkTerms {
  return {
    version: PROTOCOL_VERSION,
    features: [...FEATURES],
    limits: { messageBytes: 8 * 1024 * 1024, requests: 64, events: 500 },
    lastAt: null,
    ...change,
  };
}
