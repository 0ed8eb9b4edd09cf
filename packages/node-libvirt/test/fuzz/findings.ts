/**
 * What fuzzing has found in decoders, and what it found when a check was taken out on purpose, kept as named cases that
 * run first. What it found in channels and connections has tests of its own in test/hostile.
 *
 * To add one: copy `type` and `bytes` from the failing run's message, and name what was wrong.
 */
export interface Finding {
  what: string;
  /** Type in the schema of what is decoded. */
  type: string;
  /** In hexadecimal digits. */
  bytes: string;
}

export const FINDINGS: readonly Finding[] = [
  {
    what: 'a parameter named __proto__ that comes twice cannot be defined again',
    type: 'remote_domain_get_perf_events_ret',
    bytes:
      '00000002000000095f5f70726f746f5f5f0000000000000100000001000000095f5f70726f746f5f5f0000000000000100000002',
  },
  {
    what: 'a count whose size in bytes is 2^32 is not small',
    type: 'remote_connect_list_defined_domains_ret',
    bytes: '4000000000000000',
  },
  {
    what: 'a tag of a parameter with its highest bit set is no index',
    type: 'remote_domain_get_perf_events_ret',
    bytes: '0000000100000001660000008000000100000000',
  },
  {
    what: 'an optional value that is marked 2 is neither there nor not',
    type: 'remote_error',
    bytes: '00000001000000010000000200000000',
  },
];
