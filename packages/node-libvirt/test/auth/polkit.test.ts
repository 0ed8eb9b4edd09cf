/** polkit with a libvirtd of its own, on a host where no polkit runs: root needs none, and nobody else comes in. */
import t from 'tap';
import { connect, LibvirtError } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { daemonMissing, startPrivateDaemon } from '../support/private-daemon.ts';

const NOBODY_UID = 65_534;

t.test(
  'root needs no polkit, and whom polkit does not let in gets kind auth',
  { skip: daemonMissing() },
  async (t) => {
    const { socketPath } = await startPrivateDaemon(t, {
      conf: { auth_unix_rw: 'polkit', unix_sock_rw_perms: '0777' },
    });
    await using connection = await connect('test:///default', { socketPath, reconnect: false });
    t.equal((await connection.listAllDomains()).length, 1);
    process.seteuid?.(NOBODY_UID); // the daemon sees who makes the connection
    const error = await failureOf(connect('test:///default', { socketPath, reconnect: false })).finally(() =>
      process.seteuid?.(0),
    );
    t.match(error, { kind: 'auth', message: `polkit does not allow the connection to ${socketPath}` });
    t.ok(error.cause instanceof LibvirtError);
    t.comment(String(error.cause));
  },
);
