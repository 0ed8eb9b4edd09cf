/** Backups of what has changed of disks in clear. */
import { changesTests } from './support/changing-guest.ts';

changesTests({ name: 'e2e-changing' });
