/**
 * A scenario: one operation, from where it begins to the ends that are right.
 *
 * To add one: declare it beside its noun, and list it in index.ts. What "done" looks like is not written down;
 * it is what a run without any fault leaves, and the audit has checked that one, too.
 */
import type { OperationMethod, Params } from '../../../src/model/methods.ts';
import { hasEnded, type Operation, type OperationState } from '../../../src/model/operation.ts';
import type { LabNode } from '../node/lab-node.ts';
import type { Failing, Holding } from '../node/protocol.ts';
import { until } from '../node/until.ts';
import type { DriverName, Stand } from '../stands/stand.ts';
import type { Setting } from './setting.ts';

/** Bound of the way to the call that waits, ms. */
const HOLD_MS = 60_000;

export interface Scenario {
  /** The kind, and where a kind has several scenarios what sets this one apart. */
  name: string;
  kind: OperationMethod;
  setting: Setting;
  /** What else has to be so before it begins; idempotent. */
  arrange?(stand: Stand): Promise<void>;
  /** Where it can be played; the real laboratory's libvirtd has no control groups. @default both */
  drivers?: readonly DriverName[];
  /** It takes long: so many cases of each fault are enough. @default all */
  casesOfFault?: number;
  /**
   * The same for the same key, since a request is repeated with it.
   * @param stand Of which an import takes its image.
   */
  params(stand: Stand, key: string): Record<string, unknown>;
  /** The end of a run without a fault first; another one is right where the fault comes before what decides. */
  ends: readonly OperationState[];
  /** A run that fails leaves it as it is, to be asked for again; else it takes everything back. */
  whenFailed: 'is asked for again' | 'never happened';
  /** Calls that fail, so that what was done is undone. */
  failing?: Failing;
  /** A call that waits, and there the operation is cancelled. */
  cancelledAt?: Holding;
  /** How many backups the store has when it has succeeded, of those that were there. @default all of them */
  backupsLeft?(there: number): number;
  /** Its guest goes through its reset: on the simulated host that is seen as another boot. */
  reboots?: true;
}

/** A scenario of a kind, typed by its params. */
export function scenario<M extends OperationMethod>(
  kind: M,
  parts: Omit<Scenario, 'kind' | 'name' | 'params' | 'ends' | 'whenFailed'> & {
    variant?: string;
    params: (stand: Stand, key: string) => Partial<Params<M>>;
    ends?: Scenario['ends'];
    whenFailed?: Scenario['whenFailed'];
  },
): Scenario {
  const { variant, ...rest } = parts;
  return {
    ends: ['succeeded'],
    whenFailed: 'never happened',
    ...rest,
    kind,
    name: variant === undefined ? kind : `${kind} ${variant}`,
  };
}

/** Asks for it, and meddles as declared. Resolves with its end; rejects when berthd is gone. */
export async function act(stand: Stand, scenario: Scenario, key: string): Promise<Operation> {
  const { node } = stand;
  const { operation } = await submit(stand, scenario, key);
  if (scenario.cancelledAt !== undefined && !hasEnded(operation.state)) {
    // A fault may have ended it before.
    const isThere = async () =>
      (await node.ask({ ask: 'holds' })) || (await hasFinished(stand, operation.id));
    await until(isThere, 'the call waits', HOLD_MS);
    await until(() => isCancelled(stand, operation.id), 'the cancel is taken', HOLD_MS);
  }
  return node.untilEnded(operation);
}

/** While the journal can't be written it is refused, and asked for again, as its caller would: nothing else ends the call. */
async function isCancelled({ node }: Stand, id: string): Promise<boolean> {
  return node.call('operation.cancel', { id }).then(
    () => true,
    (error: { code?: string }) => {
      if (error.code === 'UNAVAILABLE') return false;
      throw error;
    },
  );
}

async function hasFinished({ node }: Stand, id: string): Promise<boolean> {
  return hasEnded((await node.call('operation.get', { id })).operation.state);
}

export function submit(stand: Stand, scenario: Scenario, key: string): Promise<{ operation: Operation }> {
  const params = { ...scenario.params(stand, key), key } as never;
  return (stand.node as LabNode).call(scenario.kind, params) as Promise<{ operation: Operation }>;
}
