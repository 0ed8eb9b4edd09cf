/**
 * Which addresses an image may be fetched from: not this host itself, not its links, not a cloud's metadata service.
 *
 * It is asked with the address that is about to be connected to, after names are resolved and at each redirect, so
 * that neither a name nor a redirect leads around it.
 */
import { lookup as resolve } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { AgentError } from '../../model/errors.ts';

/** Refused unless allowed by configuration. @see RFC 6890; the metadata services of EC2, Alibaba, Oracle and Azure */
const REFUSED: readonly { why: string; ranges: readonly string[] }[] = [
  { why: 'this host', ranges: ['127.0.0.0/8', '::1/128', '0.0.0.0/8', '::/128'] },
  { why: 'link-local', ranges: ['169.254.0.0/16', 'fe80::/10'] },
  {
    why: 'a metadata service',
    ranges: ['fd00:ec2::254/128', '100.100.100.200/32', '192.0.0.192/32', '168.63.129.16/32'],
  },
  { why: 'no single host', ranges: ['224.0.0.0/4', '240.0.0.0/4', 'ff00::/8'] },
];

/** IPv6 prefixes that stand for an IPv4 address, and where in the eight groups that is. @see RFC 4291, 6052, 3056 */
const EMBEDDINGS: readonly { range: string; group: number }[] = [
  { range: '::ffff:0:0/96', group: 6 },
  { range: '::/96', group: 6 },
  { range: '64:ff9b::/96', group: 6 },
  { range: '2002::/16', group: 1 },
];

export class AddressGuard {
  readonly #allowed: BlockList;
  readonly #refused = REFUSED.map(({ why, ranges }) => ({ why, list: listOf(ranges) }));
  readonly #embeddings = EMBEDDINGS.map(({ range, group }) => ({ list: listOf([range]), group }));

  /** @param allowed Ranges that are allowed though they would be refused, as in 127.0.0.0/8. @throws {AgentError} INVALID_ARGUMENT */
  constructor(allowed: readonly string[]) {
    this.#allowed = listOf(allowed);
  }

  /** Why nothing is fetched from an address; null where it may be. */
  refusal(address: string): string | null {
    if (this.#allowed.check(address, familyOf(address))) return null;
    const embedded = this.#embedded(address);
    if (embedded !== null) return this.refusal(embedded);
    return this.#refused.find(({ list }) => list.check(address, familyOf(address)))?.why ?? null;
  }

  /** @throws {AgentError} PERMISSION_DENIED: the host of a URL is an address that is refused. Names come to `lookup`. */
  checkHost(hostname: string): void {
    const address = hostname.replace(/^\[|\]$/g, '');
    if (isIP(address) === 0) return;
    const why = this.refusal(address);
    if (why !== null) throw refusedAddress(address, why);
  }

  /** Resolves a name for a connection, and leaves out what is refused. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error, []);
      const allowed = found.filter(({ address }) => this.refusal(address) === null);
      const [first] = found;
      if (allowed.length === 0 && first !== undefined) {
        return callback(
          refusedAddress(`${hostname} (${first.address})`, this.refusal(first.address) ?? ''),
          [],
        );
      }
      if (options.all) return callback(null, allowed);
      callback(null, allowed[0]?.address ?? '', allowed[0]?.family);
    });
  };

  #embedded(address: string): string | null {
    if (isIP(address) !== 6 || address === '::1' || address === '::') return null;
    const found = this.#embeddings.find(({ list }) => list.check(address, 'ipv6'));
    if (found === undefined) return null;
    const [high = 0, low = 0] = groupsOf(address).slice(found.group, found.group + 2);
    return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
  }
}

function refusedAddress(name: string, why: string): AgentError {
  return new AgentError('PERMISSION_DENIED', `No image is fetched from ${name}: it is ${why}`, {
    hint: 'An operator can allow the range in images.allowAddresses of the configuration.',
  });
}

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', prefix = ''] = range.split('/');
    if (
      isIP(address) === 0 ||
      !/^\d{1,3}$/.test(prefix) ||
      Number(prefix) > (isIP(address) === 4 ? 32 : 128)
    ) {
      throw new AgentError(
        'INVALID_ARGUMENT',
        `${range} is no range of addresses, as in 10.0.0.0/8 or fd00::/8`,
      );
    }
    list.addSubnet(address, Number(prefix), familyOf(address));
  }
  return list;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}

/** The eight groups of an IPv6 address, which the URL parser brings to one form. */
function groupsOf(address: string): number[] {
  const text = new URL(`http://[${address.replace(/%.*$/, '')}]/`).hostname.slice(1, -1);
  const [head = '', tail] = text.split('::');
  const groups = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = groups(tail ?? '');
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}
