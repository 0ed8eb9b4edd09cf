/**
 * The root directory with Debian 13's libvirt and QEMU that tests against a newer daemon use: kept in the repository's
 * build/, and built when it is first asked for (tools/build-trixie-root).
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { hostMissing, isInstalled } from './private-host.ts';

const PACKAGE = join(import.meta.dirname, '..', '..');
const BUILD = join(PACKAGE, 'tools', 'build-trixie-root');
const FOLDER = join(PACKAGE, '..', '..', 'build');

/** How long a test that may have to build the root can take, ms: on a loaded machine the build takes five minutes. */
export const BUILD_MS = 900_000;

/** Either the root, or the reason why there is none here. */
export type TrixieRoot = { root: string; skip: false } | { root: undefined; skip: string };

/** The root where it has been built: for tests that can do without, and are not to wait for the build. */
export function trixieRootIfBuilt(): TrixieRoot {
  const root = whereBuilt();
  const reason = existsSync(root) ? hostMissing() : 'needs a root of Debian 13: tools/build-trixie-root';
  return reason === false ? { root, skip: false } : { root: undefined, skip: reason };
}

/** Builds the root unless it is there. */
export function trixieRoot(): TrixieRoot {
  const root = whereBuilt();
  const reason = existsSync(root) ? hostMissing() : whyNotBuilt();
  return reason === false ? { root, skip: false } : { root: undefined, skip: reason };
}

function whereBuilt(): string {
  return execFileSync(BUILD, ['--where', FOLDER], { encoding: 'utf8' }).trim();
}

/** Builds it. @returns Why that was not possible, or false. */
function whyNotBuilt(): string | false {
  const missing = hostMissing() || (isInstalled('debootstrap') ? false : 'needs debootstrap');
  if (missing !== false) return missing;
  try {
    execFileSync(BUILD, [FOLDER], { stdio: ['ignore', 'ignore', 'inherit'] });
    return false;
  } catch (error) {
    return `the root of Debian 13 could not be built: ${(error as Error).message}`;
  }
}
