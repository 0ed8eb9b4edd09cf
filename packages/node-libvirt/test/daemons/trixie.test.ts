/** libvirtd of Debian 13 passes the daemons' contract. */
import t from 'tap';
import { startPrivateDaemon } from '../support/private-daemon.ts';
import { BUILD_MS, trixieRoot } from '../support/trixie-root.ts';
import { passesContract } from './contract.ts';

t.setTimeout(BUILD_MS);
const { root, skip } = trixieRoot();

await passesContract(t, {
  name: 'libvirtd of Debian 13',
  skip,
  start: (t) => startPrivateDaemon(t, { root, network: 'own' }),
});
