/**
 * A private daemon for all tests of one file, and one connection to each of its drivers.
 *
 *   const { skip, connectionTo } = await daemonForFile(t, { network: 'own' });
 *   t.test('a network is defined', { skip }, async (t) => {
 *     const connection = await connectionTo('qemu:///system');
 *
 * The test driver's state is that of test:///default, which all sockets of all connections to one daemon share. (Each socket
 * has a state of its own for test:///some/file.xml, so that a Connection, which has several, would see several.)
 */
import { connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import {
  daemonMissing,
  type PrivateDaemon,
  type PrivateDaemonOptions,
  startPrivateDaemon,
} from '../support/private-daemon.ts';
import { isInstalled, type TestScope } from '../support/private-host.ts';
import { trixieRootIfBuilt } from '../support/trixie-root.ts';

export interface DaemonForFile {
  /** Why its tests cannot run here, or false. */
  skip: string | false;
  /** @throws {Error} There is none: the tests are to be skipped. */
  daemon(): PrivateDaemon;
  /** A connection for the whole file. */
  connectionTo(uri: 'qemu:///system' | 'test:///default'): Promise<Connection>;
}

/**
 * Starts the daemon, where this machine can.
 *
 * @param programs That must be installed besides: libvirt runs them, or the tests do.
 */
export async function daemonForFile(
  t: TestScope,
  options: PrivateDaemonOptions = {},
  programs: readonly string[] = [],
): Promise<DaemonForFile> {
  const missing = programs.find((program) => !isInstalled(program));
  return startUnless(missing === undefined ? daemonMissing(options) : `needs ${missing}`, t, options);
}

/** The same with the libvirt of Debian 13, where its root has been built. */
export async function newerDaemonForFile(
  t: TestScope,
  options: PrivateDaemonOptions = {},
): Promise<DaemonForFile> {
  const { root, skip } = trixieRootIfBuilt();
  return startUnless(skip, t, { ...options, root });
}

async function startUnless(
  skip: string | false,
  t: TestScope,
  options: PrivateDaemonOptions,
): Promise<DaemonForFile> {
  const started = skip === false ? await startPrivateDaemon(t, options) : null;
  const connections = new Map<string, Promise<Connection>>();
  t.teardown(() => Promise.all([...connections.values()].map(async (one) => (await one).close())));
  const daemon = () => {
    if (started === null) throw new Error(`no daemon: ${skip}`);
    return started;
  };
  const connectionTo = (uri: string) => {
    const known = connections.get(uri) ?? connect(uri, { socketPath: daemon().socketPath });
    connections.set(uri, known);
    return known;
  };
  return { skip, daemon, connectionTo };
}
