/** What a machine has, from this one's kernel, and from the files of machines that are not at hand. */
import t from 'tap';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { LinuxHost } from '../../../src/drivers/host/linux-host.ts';
import { hostContract } from '../contract/host.ts';

const exec = new HostExec();
const MEMINFO = 'MemTotal:       16777216 kB\nMemFree:         1000000 kB\n';

type Files = { [name: string]: string | Files };

/** A server with two sockets: CPU 3 is offline, node 1 has huge pages of two sizes. */
function twoSockets(): Files {
  const node = (id: number, cpulist: string, hugepages: Files) => ({
    cpulist: `${cpulist}\n`,
    meminfo: `Node ${id} MemTotal:        8388608 kB\nNode ${id} MemFree:         10000 kB\n`,
    distance: id === 0 ? '10 21\n' : '21 10\n',
    hugepages,
  });
  const pages = (total: number, free: number) => ({
    nr_hugepages: `${total}\n`,
    free_hugepages: `${free}\n`,
  });
  return {
    proc: { meminfo: MEMINFO },
    sys: {
      devices: {
        system: {
          cpu: { online: '0-2\n', offline: '3\n' },
          node: {
            online: '0,2\n',
            node0: node(0, '0-1', { 'hugepages-2048kB': pages(0, 0) }),
            node2: node(2, '2', {
              'hugepages-1048576kB': pages(2, 1),
              'hugepages-2048kB': pages(512, 500),
              demote: 'x',
            }),
          },
        },
      },
    },
  };
}

hostContract(t, 'LinuxHost on this machine', async () => ({ host: new LinuxHost({ exec }) }));

t.test('a server with two sockets is told node by node', async (t) => {
  const host = new LinuxHost({ exec, root: t.testdir(twoSockets()) });
  t.same(await host.resources(), {
    cpus: '0-2',
    offlineCpus: '3',
    memoryMib: 16_384,
    numaNodes: [
      {
        id: 0,
        cpus: '0-1',
        memoryMib: 8192,
        hugepages: [],
        distances: [
          { node: 0, distance: 10 },
          { node: 2, distance: 21 },
        ],
      },
      {
        id: 2,
        cpus: '2',
        memoryMib: 8192,
        hugepages: [
          { sizeKib: 2048, total: 512, free: 500 },
          { sizeKib: 1_048_576, total: 2, free: 1 },
        ],
        distances: [
          { node: 0, distance: 21 },
          { node: 2, distance: 10 },
        ],
      },
    ],
  });
});

t.test('a kernel without NUMA is one node, with the huge pages of the whole machine', async (t) => {
  const root = t.testdir({
    proc: { meminfo: MEMINFO },
    sys: {
      devices: { system: { cpu: { online: '0-3\n' } } },
      kernel: { mm: { hugepages: { 'hugepages-2048kB': { nr_hugepages: '4\n', free_hugepages: '4\n' } } } },
    },
  });
  t.match(await new LinuxHost({ exec, root }).resources(), {
    offlineCpus: '',
    numaNodes: [{ id: 0, cpus: '0-3', memoryMib: 16_384, hugepages: [{ sizeKib: 2048, total: 4, free: 4 }] }],
  });
});

t.test('a node that goes while it is looked at is left out', async (t) => {
  const files = twoSockets();
  delete (((files['sys'] as Files)['devices'] as Files)['system'] as { node: Files }).node['node2'];
  const { numaNodes } = await new LinuxHost({ exec, root: t.testdir(files) }).resources();
  t.same(
    numaNodes.map(({ id }) => id),
    [0],
  );
});

t.test(
  'a machine that does not say what it has is UNAVAILABLE, and never taken for an empty one',
  async (t) => {
    const bad: [string, Files][] = [
      ['no files at all', {}],
      ['no memory', { proc: { meminfo: 'x' }, sys: { devices: { system: { cpu: { online: '0\n' } } } } }],
      ['no CPU', { proc: { meminfo: MEMINFO }, sys: { devices: { system: { cpu: { online: '\n' } } } } }],
      ['no list', { proc: { meminfo: MEMINFO }, sys: { devices: { system: { cpu: { online: 'all' } } } } }],
    ];
    for (const [what, files] of bad) {
      const root = t.testdir(files);
      await t.rejects(new LinuxHost({ exec, root }).resources(), { code: 'UNAVAILABLE' }, what);
    }
  },
);
