/** Backups of what has changed of an encrypted disk, into a store with a key. */
import { changesTests } from './support/changing-guest.ts';

changesTests({ name: 'e2e-changing-sealed', encryption: { key: 'disks' } });
