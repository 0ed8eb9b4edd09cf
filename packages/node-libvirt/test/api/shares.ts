/**
 * How the methods of the biggest classes are shared out between test files: by topic.
 *
 * A method belongs to the first topic whose pattern matches its name; the last pattern of a class matches every name, so
 * that none is left out. shares.test.ts sees to it that there is a file for each topic.
 */

/** Topic to pattern of method names. */
export type Shares<Topic extends string> = Readonly<Record<Topic, RegExp>>;

export const CONNECTION_SHARES = {
  'storage pools': /storagepool/i,
  'storage volumes': /storagevol/i,
  networks: /network/i,
  interfaces: /interface/i,
  'node devices': /device/i,
  secrets: /secret/i,
  'network filters': /nwfilter/i,
  domains: /domain(?!XML|Capabilities)/i,
  host: /./,
} as const satisfies Shares<string>;

export const DOMAIN_SHARES = {
  migration: /^migrate(\d|ToURI\d?)?$/,
  snapshots: /snapshot/i,
  checkpoints: /checkpoint/i,
  saving: /save|coreDump/i,
  disks: /block|disk|throttle/i,
  jobs: /job|backup|migrate|dirty/i,
  'guest agent':
    /agent|^fs|FSInfo|SSHKeys|GuestInfo|GuestVcpus|Hostname|Password|[gs]etTime|pmSuspend|interfaceAddresses/i,
  tuning: /vcpu|memory(?!Peek)|param|scheduler|^pin|PinInfo|iothread|perf|cpustats/i,
  devices:
    /device|console|channel|graphics|screenshot|sendKey|sendProcess|nmi|peek|interfaceStats|monitor|launch|securityLabel/i,
  life: /./,
} as const satisfies Shares<string>;

/** Whether a method belongs to a topic. @throws {Error} It belongs to none. */
export function inShare<Topic extends string>(
  shares: Shares<Topic>,
  topic: Topic | undefined,
  method: string,
): boolean {
  const [owner] = Object.entries<RegExp>(shares).find(([, pattern]) => pattern.test(method)) ?? [];
  if (owner === undefined) throw new Error(`${method} belongs to no topic: add it to shares.ts`);
  return owner === topic;
}
