import t from 'tap';
import {
  chainTo,
  type Layer,
  type LayerId,
  nextTidying,
  tidied,
  type VolumeLayers,
} from '../../src/model/layers.ts';
import fc from '../property.ts';

/** What is in each file: which block was written by whom. */
type Blocks = ReadonlyMap<LayerId, Readonly<Record<number, string>>>;

const BLOCKS = 6;

t.test('a chain is told from its lowest layer, and ends where it meets itself', async (t) => {
  const layers = [layer('a', null), layer('b', 'a'), layer('c', 'b'), layer('x', 'y'), layer('y', 'x')];
  t.same(chainTo(layers, null), []);
  t.same(chainTo(layers, 'c'), ['a', 'b', 'c']);
  t.same(chainTo(layers, 'x'), ['y', 'x']);
});

t.test('a volume that no snapshot keeps becomes its own file again', async (t) => {
  const layers = [layer('a', null), layer('b', 'a'), layer('left', 'a')];
  const end = settle({ active: 'b', layers }, new Set());
  t.same(end, { active: null, layers: [] });
});

t.test('whatever is tidied, those that are kept and the active one read as before', async (t) => {
  const trees = fc
    .tuple(
      fc.array(fc.nat(), { maxLength: 9 }),
      fc.nat(),
      fc.array(fc.nat(), { maxLength: 4 }),
      fc.array(fc.array(fc.nat(BLOCKS - 1), { maxLength: 3 }), { minLength: 10, maxLength: 10 }),
    )
    .map(([parents, active, kept, written]) => treeOf(parents, active, kept, written));
  fc.assert(
    fc.property(trees, ({ volume, kept, blocks }) => {
      const before = [volume.active, ...kept].map((id) => read(volume, blocks, id));
      const { end, files, moved } = run(volume, kept, blocks);
      const after = [end.active, ...[...kept].map((id) => moved(id))].map((id) => read(end, files, id));
      return (
        JSON.stringify(after) === JSON.stringify(before) &&
        end.layers.every(({ merged }) => !merged) &&
        end.layers.length <= 2 * kept.size + 1
      );
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});

function treeOf(parents: number[], active: number, kept: number[], written: number[][]) {
  const ids = parents.map((_, index) => `l${index}`);
  const all: LayerId[] = [null, ...ids];
  const at = (choice: number, below: number): LayerId => all[choice % below] ?? null;
  const layers = ids.map((id, index) => layer(id, at(parents[index]!, index + 1)));
  // What guests write to, nothing stands on.
  const leaves = all.filter((id) => !layers.some(({ parent }) => parent === id));
  const top = leaves[active % leaves.length] ?? null;
  const keeps = kept.map((choice) => at(choice, all.length)).filter((id) => id !== top);
  const blocks: Blocks = new Map(
    all.map((id, index) => [
      id,
      Object.fromEntries((written[index] ?? []).map((block) => [block, `${id}:${block}`])),
    ]),
  );
  return { volume: { active: top, layers }, kept: new Set(keeps), blocks };
}

/** Does on files what is said, as a host would; ends, and never touches a file that is needed. */
function run(volume: VolumeLayers, kept: ReadonlySet<LayerId>, blocks: Blocks) {
  const files = new Map(blocks);
  const names = new Map<LayerId, LayerId>();
  const moved = (id: LayerId): LayerId => (names.has(id) ? moved(names.get(id) ?? null) : id);
  let state = volume;
  let needed = new Set(kept);
  for (let step = nextTidying(state, needed); step !== null; step = nextTidying(state, needed)) {
    if (step.do === 'merge') {
      files.set(step.into, { ...files.get(step.into), ...files.get(step.layer) });
      names.set(step.layer, step.into);
      needed = new Set([...needed].map(moved));
    } else files.delete(step.layer);
    state = tidied(state, step);
  }
  return { end: state, files, moved };
}

function read({ layers }: VolumeLayers, blocks: Blocks, id: LayerId) {
  const chain: LayerId[] = [null, ...chainTo(layers, id)];
  if (chain.some((each) => !blocks.has(each))) throw new Error(`a file of ${id} is gone`);
  return Object.entries(Object.assign({}, ...chain.map((each) => blocks.get(each)))).sort();
}

function settle(volume: VolumeLayers, kept: ReadonlySet<LayerId>): VolumeLayers {
  return run(volume, kept, new Map([[null, {}], ...volume.layers.map(({ id }) => [id, {}] as const)])).end;
}

function layer(id: string, parent: LayerId): Layer {
  return { id, parent, merged: false };
}
