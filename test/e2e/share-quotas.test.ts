/**
 * Quotas of shares, held by a real kernel: that of a guest, since not every machine's kernel keeps project quotas. The
 * guest has what it runs from a read-only share.
 */
import t from 'tap';
import { cannotFurnish, runFurnished } from './support/furnished.ts';
import { cannotRun, RealNode } from './support/node.ts';
import type { Seen } from './support/quotas-in-guest.ts';

/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const MIB = 1024 ** 2;
const FURNITURE = {
  entry: 'quotas-in-guest.ts',
  tools: [
    '/usr/sbin/mkfs.ext4',
    '/usr/sbin/setquota',
    '/usr/bin/mount',
    '/usr/bin/findmnt',
    '/usr/bin/chattr',
    '/usr/bin/setpriv',
    '/usr/bin/fallocate',
    '/usr/bin/rm',
  ],
  modules: ['quota_v2'],
};

const skip = cannotRun() || cannotFurnish(FURNITURE);
const node = new RealNode();
t.teardown(() => (skip ? undefined : node.remove()));

t.test(
  'a guest is kept from writing beyond the quota of its share, and others are not',
  { skip, timeout: TEST_MS },
  async (t) => {
    const { code, output } = await runFurnished(node, 'e2e-quotas', FURNITURE);
    if (code !== 0) throw new Error(output);
    const { sizeSeenBytes, writes, ownBytes, listedAfter } = JSON.parse(output) as Seen;
    t.equal(sizeSeenBytes, 1024 * MIB, 'the folder shows its quota as its size');
    t.match(writes, {
      within: 'written',
      beyond: /quota exceeded/,
      'in another share': 'written',
      'after it was raised': 'written',
      'after it was lowered below what is there': /quota exceeded/,
      'after it was taken away': 'written',
      'beyond one that was given later': /quota exceeded/,
    });
    // A writing that is refused may have taken what was left.
    t.ok(ownBytes > 900 * MIB && ownBytes < 1025 * MIB, `what it holds is taken by the pool: ${ownBytes}`);
    t.equal(listedAfter, 0);
  },
);
