/**
 * The modular daemons: virtqemud for guests, and one more for each kind of thing that they use. Taken from Debian 13's
 * libvirt, with their main programs compiled by tools/build-trixie-root.
 *
 * To its clients virtqemud does all that libvirtd does: what is another daemon's it passes on.
 */
import t, { type Test } from 'tap';
import { connect, type Gap, LibvirtUnsupportedError } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { type PrivateDaemon, startDaemonOn } from '../support/private-daemon.ts';
import { PrivateHost } from '../support/private-host.ts';
import { BUILD_MS, trixieRoot } from '../support/trixie-root.ts';
import { until } from '../support/until.ts';
import { passesContract } from './contract.ts';

t.setTimeout(BUILD_MS);
const { root, skip } = trixieRoot();

const SECONDARY = ['network', 'storage', 'nodedev', 'secret', 'interface', 'nwfilter'] as const;

type DaemonName = `virt${(typeof SECONDARY)[number] | 'qemu' | 'proxy'}d`;
const ALL = [...SECONDARY, 'qemu', 'proxy'].map((name) => `virt${name}d` as DaemonName);

const newHost = (t: Test) => PrivateHost.create(t, { root, network: 'own' });

/** The whole set on one host, by name. */
async function startAll(t: Test): Promise<Record<DaemonName, PrivateDaemon>> {
  const host = await newHost(t);
  const start = async (name: DaemonName) => [name, await startDaemonOn(host, t, { daemon: name })];
  return Object.fromEntries(await Promise.all(ALL.map(start)));
}

for (const name of ['virtqemud', 'virtproxyd'] as const) {
  await passesContract(t, {
    name: `${name}, with the other daemons behind it,`,
    skip,
    start: async (t) => (await startAll(t))[name],
  });
}

t.test('alone, virtqemud runs guests, and says which daemon is missing for the rest', { skip }, async (t) => {
  const host = await newHost(t);
  const { socketPath } = await startDaemonOn(host, t, { daemon: 'virtqemud' });
  await using connection = await connect('qemu:///system', { socketPath });
  t.same(await connection.listAllDomains(), []);
  const failure = await failureOf(connection.listAllNetworks());
  t.match(failure, { codeName: 'VIR_ERR_SYSTEM_ERROR', message: /virtnetworkd-sock/ });
  t.equal(connection.state, 'connected');
  await startDaemonOn(host, t, { daemon: 'virtnetworkd' });
  t.same(await connection.listAllNetworks(), [], 'when it has come, it is used');
});

for (const [front, behind] of [
  ['virtqemud', 'virtnetworkd'],
  ['virtproxyd', 'virtqemud'],
] as const) {
  t.test(`when ${behind} is restarted behind ${front}, the connection is made anew`, { skip }, async (t) => {
    const daemons = await startAll(t);
    const { socketPath } = daemons[front];
    await using connection = await connect('qemu:///system', { socketPath, reconnect: { initialMs: 10 } });
    const names: string[] = [];
    await connection.onEvent('network', 'lifecycle', ({ network }) => names.push(network.name));
    const gaps: Gap[] = [];
    connection.onGap((gap) => gaps.push(gap));
    const ask = () => (behind === 'virtqemud' ? connection.listAllDomains() : connection.listAllNetworks());
    t.same(await ask(), []);
    await daemons[behind].restart();
    t.match(await failureOf(ask()), { codeName: 'VIR_ERR_INTERNAL_ERROR' }, 'the first call shows it');
    await until(() => gaps.length > 0, 'the gap is told');
    t.match(gaps, [{ cause: { kind: 'closed', cause: { codeName: 'VIR_ERR_INTERNAL_ERROR' } }, lost: [] }]);
    t.same(await ask(), [], 'and the next one is answered');
    await connection.networkDefineXML('<network><name>nlp-told</name></network>');
    await until(() => names.includes('nlp-told'), 'events come again');
  });
}

for (const name of SECONDARY) {
  t.test(
    `virt${name}d serves ${name}:///system on its own socket, and looks for virtqemud for guests`,
    { skip },
    async (t) => {
      const { socketPath } = await startDaemonOn(await newHost(t), t, { daemon: `virt${name}d` });
      await using connection = await connect(`${name}:///system`, { socketPath });
      t.ok((await connection.getLibVersion()) >= 11_000_000);
      t.ok((await failureOf(connection.listAllDomains())) instanceof LibvirtUnsupportedError);
      const refused = await failureOf(connect('qemu:///system', { socketPath }));
      t.match(refused, { codeName: 'VIR_ERR_SYSTEM_ERROR', message: /virtqemud-sock/ });
    },
  );
}
