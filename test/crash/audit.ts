/**
 * The audit after a case: is the host exactly what the store says, and the store what was asked, or nothing?
 *
 * Pure. Two questions are kept apart:
 *  - a leak: the host has what no row accounts for.
 *  - a wrong end: a row without its thing, rows that are neither those of "done" nor of "never happened", an
 *    operation that says the one and is the other, a guest that is another process than before.
 */
import { hasEnded } from '../../src/model/operation.ts';
import { DEFAULT_POOL } from '../../src/model/pool.ts';
import { OTHER_POOL, SHARED_POOL } from './node/lab-node.ts';
import type { DriversView, JournaledOperation, Row, Rows } from './node/protocol.ts';
import { TABLES } from './node/protocol.ts';
import { LENT, lentLayerLine, lentLine, lentVariablesLine } from './stands/lent.ts';
import type { DriverName } from './stands/stand.ts';

export interface Findings {
  leaks: string[];
  wrongEnds: string[];
}

const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

/** Columns that differ from run to run. */
const VOLATILE =
  /(_at|_at_ms|_since|_reason)$|^(guest|mac_address|bridge|tap_name|sha256|file_sha256|restarts|stopped_by|baseline|seal|quiesced)$/;
/** Columns that a fault which ends guests changes, and so does whoever starts them again. */
const OF_POWER = ['power_state', 'desired', 'generation'];

/** Kept beside an image, a volume or a share, and no file of its own to the drivers. */
const RECORD = /^file (\w+\/)?(images|volumes|shares)\/.*\.json$/;

/** What the rows say that the host has. `may`: there or not, as a console log is. */
export function expectedHost(rows: Rows, driver: DriverName): { must: string[]; may: string[] } {
  const must = [
    ...rows.images.flatMap((image) => imageThings(image, driver)),
    ...rows.networks.flatMap((network) => networkThings(network, driver)),
    ...rows.volumes.flatMap(({ id }) => {
      const place = volumesOf(rows, id);
      return [`file ${place}/${id}.qcow2`, ...recordOf(`${place}/${id}`, driver)];
    }),
    ...rows.layers.map(
      ({ volume_id: volume, id }) => `file ${volumesOf(rows, volume)}/${volume}.${id}.qcow2`,
    ),
    ...rows.snapshots.flatMap((snapshot) => memoryOf(rows, snapshot)),
    ...rows.shares.flatMap(({ id }) => [`file shares/${id}`, ...recordOf(`shares/${id}`, driver)]),
    ...rows.instances.flatMap((instance) => instanceThings(instance, rows, driver)),
  ];
  const consoles = rows.instances.map(({ id }) => `file consoles/${id}.log`);
  const secrets = rows.volumes
    .filter((row) => row['encryption_key'] !== null)
    .map(({ id }) => `secret ${id}`);
  const records = rows.instances.flatMap((instance) => recordOfSnapshots(rows, instance));
  const variables = rows.instances.flatMap((instance) => besideBoot(rows, instance, 'nvram'));
  const may = [...consoles, ...secrets, ...variables, ...rows.images.flatMap(copyOf)];
  return { must: [...must, ...records], may };
}

/** What another node would have to know of them. */
function recordOfSnapshots(rows: Rows, instance: Row): string[] {
  const isRecorded = rows.snapshots.some((row) => row['instance_id'] === instance.id);
  return isRecorded ? besideBoot(rows, instance, 'snapshots') : [];
}

/** What is kept up for another node beside the volume that boots, in the pool that both have. */
function besideBoot(rows: Rows, { id: instance }: Row, suffix: string): string[] {
  const boot = rows.volumes.find((row) => row['instance_id'] === instance && row['position'] === 0);
  return boot?.['pool'] === SHARED_POOL
    ? [`file ${SHARED_POOL}/volumes/${boot.id}.${instance}.${suffix}`]
    : [];
}

function imageThings({ id, format }: Row, driver: DriverName): string[] {
  return [`file images/${id}.${format}`, ...recordOf(`images/${id}`, driver)];
}

function memoryOf(rows: Rows, { id, memory_volume_id: volume, nvram_volume_id: other }: Row): string[] {
  const memory = volume === null ? [] : [`file ${volumesOf(rows, volume)}/${volume}.${id}.memory`];
  return other === null ? memory : [...memory, `file ${volumesOf(rows, other)}/${other}.${id}.nvram`];
}

/** The folder that a volume's files are in. */
function volumesOf({ volumes }: Rows, id: Row[string] | undefined): string {
  const pool = volumes.find((volume) => volume['id'] === id)?.['pool'] ?? DEFAULT_POOL;
  return pool === DEFAULT_POOL ? 'volumes' : `${pool}/volumes`;
}

/** What the other pool has of an image, whole or in part, once a volume was to stand on it there: it goes with the image. */
function copyOf({ id, format }: Row): string[] {
  const suffixes = [format, 'json', 'partial', 'fetch', 'fetch.partial', 'json.partial'];
  return suffixes.map((suffix) => `file ${OTHER_POOL}/images/${id}.${suffix}`);
}

function recordOf(file: string, driver: DriverName): string[] {
  return driver === 'libvirt' ? [`file ${file}.json`] : [];
}

function networkThings({ id, bridge, dhcp }: Row, driver: DriverName): string[] {
  if (driver === 'sim') return [`bridge ${bridge}`];
  const server = dhcp === 1 ? [`dnsmasq ${id}`] : [];
  return [`bridge ${bridge}`, `table berth_${String(id).replaceAll('-', '')}`, `folder ${id}`, ...server];
}

function instanceThings({ id, power_state: power }: Row, rows: Rows, driver: DriverName): string[] {
  const ports = rows.ports.filter(({ instance_id: owner }) => owner === id);
  const live = ports.map(
    ({ tap_name: tap, network_id: network }) => `tap ${tap} on ${bridgeOf(rows, network)}`,
  );
  return [
    `guest ${id} ${power === 'crashed' && driver === 'libvirt' ? 'stopped' : power}`,
    `file seeds/${id}.iso`,
    ...ports.map(({ id: port, network_id: network }) => `port ${network} ${port}`),
    ...(power === 'running' ? live : []),
    ...(power === 'running' && driver === 'libvirt' ? [`qemu ${id}`, ...shareServers(id, rows)] : []),
  ];
}

/** One for each share of a running guest. */
function shareServers(id: Row[string] | undefined, { share_users: uses }: Rows): string[] {
  return uses.filter((use) => use['instance_id'] === id).map((use) => `virtiofsd ${use['share_id']}`);
}

function bridgeOf({ networks }: Rows, id: unknown): unknown {
  return networks.find((network) => network['id'] === id)?.['bridge'];
}

/** Compares the host with the store; what another node has is no matter of this one. */
export function auditHost(seen: readonly string[], rows: Rows, driver: DriverName): Findings {
  const lent = [...LENT.volumes.map(lentLine), ...LENT.layers.map(lentLayerLine), lentVariablesLine()];
  const host = seen.filter((line) => !lent.includes(line));
  const { must, may } = expectedHost(rows, driver);
  return {
    leaks: without(host, [...must, ...may]).map((thing) => `nobody's: ${thing}`),
    wrongEnds: without(must, host).map((thing) => `missing: ${thing}`),
  };
}

/** Whether one node, and only one, has each volume that passes from another node to this one, and each layer. */
export function auditLent(
  host: readonly string[],
  rows: Rows,
  { layers, variables }: { layers: boolean; variables: boolean },
): string[] {
  const once = (what: string, isHere: boolean, line: string) =>
    isHere === host.includes(line) ? [`${isHere ? 'both nodes have' : 'neither node has'} ${what}`] : [];
  const has = (all: readonly Row[], id: string) => all.some((row) => row['id'] === id);
  return [
    ...LENT.volumes.flatMap((id) => once(`volume ${id}`, has(rows.volumes, id), lentLine(id))),
    ...(layers ? LENT.layers : []).flatMap((id) =>
      once(`layer ${id}`, has(rows.layers, id), lentLayerLine(id)),
    ),
    ...(variables
      ? once('the firmware variables', has(rows.instances, LENT.instance), lentVariablesLine())
      : []),
  ];
}

/** Compares what the drivers tell with what the host's own tools tell. */
export function auditView(view: DriversView, host: readonly string[]): string[] {
  const told = [
    ...view.guests.map(({ id, power }) => `guest ${id} ${power === 'crashed' ? 'stopped' : power}`),
    ...view.bridges.map((bridge) => `bridge ${bridge}`),
    ...view.files.map((path) => `file ${path}`),
  ];
  const seen = host
    .filter((line) => /^(guest|bridge|file) /.test(line) && !RECORD.test(line))
    .map((line) => line.replace(/^(guest .*) crashed$/, '$1 stopped'));
  return [
    ...without(seen, told).map((thing) => `the drivers do not tell: ${thing}`),
    ...without(told, seen).map((thing) => `only the drivers tell: ${thing}`),
  ];
}

/** Rows, and those from which they have come: generations count from there. */
export interface Left {
  rows: Rows;
  since: Rows;
}

export interface NormalOptions {
  /** A request that failed has raised it, too, may have given a new ID, and has said what is wanted from then on. */
  generation: 'kept' | 'left out';
  /** With all that goes with it. */
  power: 'kept' | 'left out';
}

/** The rows without what differs from run to run, and with names in place of ids. */
export function normalRows({ rows, since }: Left, { generation, power }: NormalOptions): string[] {
  const labels = labelsOf(rows);
  const text = (row: Row, column: string, value: Row[string]) => {
    if (VOLATILE.test(column) || (power === 'left out' && OF_POWER.includes(column))) return [];
    if (column === 'desired' && generation === 'left out') return [];
    if (column === 'generation_id')
      return generation === 'left out' ? [] : [`generation ID ${isKept(since, row) ? 'kept' : 'new'}`];
    if (column !== 'generation') return [`${column}=${labelled(value, labels)}`];
    return generation === 'left out' ? [] : [`generation +${Number(value) - generationOf(since, row['id'])}`];
  };
  return TABLES.flatMap((table) =>
    rows[table].map((row) => {
      const columns = Object.entries(row).flatMap(([column, value]) => text(row, column, value));
      return `${table}: ${columns.join(', ')}`;
    }),
  ).toSorted();
}

/** With names in place of the ids within it. */
function labelled(value: Row[string], labels: ReadonlyMap<unknown, string>): string {
  return String(value).replace(UUID, (id) => labels.get(id) ?? id);
}

function generationOf({ instances }: Rows, id: unknown): number {
  return Number(instances.find((instance) => instance['id'] === id)?.['generation'] ?? 0);
}

/** Whether an instance's system has been told nothing of a way back. */
function isKept({ instances }: Rows, { id, generation_id: generationId }: Row): boolean {
  return instances.some((instance) => instance['id'] === id && instance['generation_id'] === generationId);
}

function labelsOf(rows: Rows): Map<unknown, string> {
  const named = (['images', 'networks', 'instances', 'volumes', 'shares'] as const).flatMap((table) =>
    rows[table].map(({ id, name }): [unknown, string] => [id, `${table}/${name}`]),
  );
  const labels = new Map(named);
  for (const { id, name } of rows.snapshots) labels.set(id, `snapshots/${name}`);
  for (const layer of rows.layers) labels.set(layer['id'], `layers/${depthOf(rows.layers, layer)}`);
  for (const { id, instance_id: owner, position } of rows.ports)
    labels.set(id, `ports/${labels.get(owner)}/${position}`);
  return labels;
}

/** How many layers it stands on. */
function depthOf(layers: readonly Row[], { volume_id: volume, parent }: Row): number {
  const below = layers.find((each) => each['volume_id'] === volume && each['id'] === parent);
  return below === undefined ? 0 : 1 + depthOf(layers, below);
}

/** Lines of the difference, for people. */
export function difference(found: readonly string[], wanted: readonly string[]): string[] {
  return [
    ...without(found, wanted).map((line) => `is: ${line}`),
    ...without(wanted, found).map((line) => `should be: ${line}`),
  ];
}

export interface EndQuestion {
  operation: JournaledOperation | null;
  rows: Rows;
  before: Rows;
  done: Left;
  power: 'kept' | 'left out';
  /** It was asked for again after it had failed. */
  isRepeated: boolean;
}

/** Whether the rows are those that the operation's own end promises. */
export function auditEnd({ operation, rows, before, done, power, isRepeated }: EndQuestion): string[] {
  if (operation !== null && !hasEnded(operation.state))
    return [`the operation has not ended: it is ${operation.state}`];
  const isOnce = !isRepeated && (operation === null || operation.state === 'succeeded');
  const options: NormalOptions = { power, generation: isOnce ? 'kept' : 'left out' };
  const wanted = operation?.state === 'succeeded' ? done : { rows: before, since: before };
  const differs = difference(normalRows({ rows, since: before }, options), normalRows(wanted, options));
  const end = operation === null ? 'was never accepted' : operation.state;
  return differs.map((line) => `the operation ${end}, yet ${line}`);
}

/** Guests that ran before and run still are the same processes. */
export function auditProcesses(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): string[] {
  return [...before].flatMap(([id, process]) => {
    const now = after.get(id);
    return now === undefined || now === process ? [] : [`guest ${id} was ${process} and is now ${now}`];
  });
}

/** Each thing counts: two servers where one should be are one too many. */
function without(lines: readonly string[], others: readonly string[]): string[] {
  const left = Map.groupBy(others, (line) => line);
  return lines.filter((line) => left.get(line)?.pop() === undefined);
}
