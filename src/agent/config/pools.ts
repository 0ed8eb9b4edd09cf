/**
 * The pools that a configuration names, the default one among them, in one form. Pure.
 */
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Fault } from '../../model/validate.ts';
import type { Config } from './schema.ts';

export interface PoolSettings {
  name: string;
  /** Absolute path of its folder. */
  path: string;
  /** What the node mounts there itself; null for nothing. */
  nfs: { source: string; options: string } | null;
  /** Whether other nodes have it in the same folder. */
  shared: boolean;
  diskRatio: number;
  /** GiB. */
  reservedDiskGib: number;
  /** Percent of it that is really used; 100 for never. */
  warningPercent: number;
  criticalPercent: number;
}

/** The default one first. */
export function poolSettings({ storage, capacity, pools }: Config): PoolSettings[] {
  const { diskRatio, reservedDiskGib, poolWarningPercent, poolCriticalPercent } = capacity;
  const home: PoolSettings = {
    name: DEFAULT_POOL,
    path: storage.path,
    nfs: null,
    shared: false,
    diskRatio,
    reservedDiskGib,
    warningPercent: poolWarningPercent,
    criticalPercent: poolCriticalPercent,
  };
  const others = pools.map(({ nfs, nfsOptions, ...settings }) => ({
    ...settings,
    nfs: nfs === undefined ? null : { source: nfs, options: mountOptions(nfsOptions, settings) },
  }));
  return [home, ...others];
}

/** A name that another node has taken away is not to be known from before. @see nfs(5), lookupcache */
function mountOptions(options: string, { shared }: Pick<PoolSettings, 'shared'>): string {
  return shared && !/(^|,)lookupcache=/.test(options) ? `${options},lookupcache=none` : options;
}

/** What no single key of pools can show; null where nothing is wrong. */
export function faultOfPools(config: Config): Fault | null {
  const all = poolSettings(config);
  for (const [index, pool] of all.entries()) {
    const message = objectionTo(pool, all.slice(0, index));
    if (message !== null) return { path: index === 0 ? ['storage'] : ['pools', String(index - 1)], message };
  }
  return null;
}

function objectionTo(pool: PoolSettings, others: readonly PoolSettings[]): string | null {
  const { name, path, warningPercent, criticalPercent } = pool;
  if (others.some((other) => other.name === name))
    return name === DEFAULT_POOL
      ? `${name} is the pool of [storage], and no other one can have its name`
      : `two pools are named ${name}`;
  const near = others.find((other) => contains(path, other.path) || contains(other.path, path));
  if (near !== undefined)
    return `${path} of pool ${name} and ${near.path} of pool ${near.name} are in each other`;
  if (warningPercent > criticalPercent)
    return `warningPercent (${warningPercent}) of pool ${name} is above criticalPercent (${criticalPercent})`;
  return null;
}

/** By their names alone: what links lead to is found by the mark. */
function contains(folder: string, path: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}
