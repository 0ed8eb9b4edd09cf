/** A daemon under test, and what tests of several daemons share. */
import type { Test } from 'tap';
import type { Connection, EventFamily, EventKind, LibvirtEvent } from '../../src/index.ts';
import type { PrivateDaemon } from '../support/private-daemon.ts';

export interface Running {
  daemon: PrivateDaemon;
  /** To qemu:///system. */
  connection: Connection;
  /** 1,000,000 × major + 1,000 × minor + release. */
  version: number;
}

/** Tests by name: each ends the sentence "it …". */
export type RunningTests = Readonly<Record<string, (t: Test, running: Running) => Promise<void>>>;

/** Collects the events of one kind until the test ends. */
export async function heardBy<F extends EventFamily, K extends EventKind<F>>(
  t: Test,
  connection: Connection,
  family: F,
  kind: K,
): Promise<LibvirtEvent<F, K>[]> {
  const heard: LibvirtEvent<F, K>[] = [];
  const stop = await connection.onEvent(family, kind, (event) => heard.push(event));
  t.teardown(stop);
  return heard;
}
