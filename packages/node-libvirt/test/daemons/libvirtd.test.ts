/** libvirtd of this machine passes the daemons' contract. */
import t from 'tap';
import { daemonMissing, startPrivateDaemon } from '../support/private-daemon.ts';
import { passesContract } from './contract.ts';

t.setTimeout(300_000);
await passesContract(t, {
  name: "this machine's libvirtd",
  skip: daemonMissing(),
  start: (t) => startPrivateDaemon(t, { network: 'own' }),
});
