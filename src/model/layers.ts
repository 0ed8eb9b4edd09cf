/**
 * The layers of a volume: the files that snapshots leave of it. Pure.
 *
 * ```
 *   own file ◀── a ◀── b          b is active: guests write to it
 *                └──── c          c was left by a revert, or is kept by another snapshot
 * ```
 *
 * The own file stands on the volume's image, or on nothing, and is always there. A layer holds what has changed since
 * its parent was frozen. What no snapshot keeps, and nothing but one layer stands on, is merged with that one; so a
 * volume without snapshots is its own file again.
 */

/** `null` is the volume's own file. */
export type LayerId = string | null;

export interface Layer {
  id: string;
  parent: LayerId;
  /** Its data is in its parent already: only its file is still to be removed. */
  merged: boolean;
}

export interface VolumeLayers {
  active: LayerId;
  layers: readonly Layer[];
}

/** Longest chain of layers above a volume's own file: QEMU opens, and asks, each of them for what the others lack. */
export const LAYERS_MAX = 32;

export type Tidying =
  /** Its file goes: it is merged, or nothing needs it. */
  | { do: 'remove'; layer: string }
  /** Its data goes into the layer below, which takes its place; `children` stand on it now. */
  | { do: 'merge'; layer: string; into: LayerId; children: string[] };

/** The layers from the one that stands on the own file up to this one; without merged ones it is what QEMU opens. */
export function chainTo(layers: readonly Layer[], top: LayerId): string[] {
  const byId = new Map(layers.map((layer) => [layer.id, layer]));
  const chain: string[] = [];
  for (let at = top; at !== null && !chain.includes(at); at = byId.get(at)?.parent ?? null) chain.unshift(at);
  return chain;
}

/**
 * What is to be done next, until nothing is.
 *
 * @param kept The layers that snapshots keep.
 */
export function nextTidying({ active, layers }: VolumeLayers, kept: ReadonlySet<LayerId>): Tidying | null {
  const there = layers.filter(({ merged }) => !merged);
  const childrenOf = (id: LayerId) => there.filter(({ parent }) => parent === id).map((layer) => layer.id);
  const isNeeded = (id: LayerId) => id === active || kept.has(id);
  const gone =
    layers.find(({ merged }) => merged) ??
    there.find(({ id }) => !isNeeded(id) && childrenOf(id).length === 0);
  if (gone !== undefined) return { do: 'remove', layer: gone.id };
  for (const into of [null, ...there.map(({ id }) => id)]) {
    const [layer, ...others] = isNeeded(into) ? [] : childrenOf(into);
    if (layer !== undefined && others.length === 0)
      return { do: 'merge', layer, into, children: childrenOf(layer) };
  }
  return null;
}

/** The layers after it was done on the host. A merged one stays, marked, until its file is gone. */
export function tidied({ active, layers }: VolumeLayers, step: Tidying): VolumeLayers {
  if (step.do === 'remove') return { active, layers: layers.filter(({ id }) => id !== step.layer) };
  const { layer, into } = step;
  return {
    active: active === layer ? into : active,
    layers: layers.map((each) => {
      if (each.id === layer) return { ...each, merged: true };
      return each.parent === layer ? { ...each, parent: into } : each;
    }),
  };
}
