import t from 'tap';
import { residentMibIn, startTimeIn } from '../../../src/drivers/libvirt/processes.ts';
import { cpuNsIn, diskCountersIn, nicsIn } from '../../../src/drivers/libvirt/usage-mapping.ts';

/** As libvirt 9.0.0 answers for a guest with a NIC and a disk. */
const STATS = {
  'cpu.time': 459_890_000n,
  'net.count': 1,
  'net.0.name': 'bt-0123456789a',
  'net.0.rx.bytes': 110n,
  'net.0.rx.pkts': 1n,
  'net.0.tx.bytes': 2n ** 60n,
  'net.0.tx.pkts': 7n,
};
const DISK = { rd_req: 3n, rd_bytes: 512n, wr_req: 0n, wr_bytes: 2n ** 60n, errs: -1n };

t.test(
  'what libvirt says of a guest is told, by tap where it has taps, however large the numbers',
  async (t) => {
    t.equal(cpuNsIn(STATS), 459_890_000n);
    t.same(
      [...nicsIn(STATS)],
      [
        [
          'bt-0123456789a',
          { receivedBytes: 110n, receivedPackets: 1n, sentBytes: 2n ** 60n, sentPackets: 7n },
        ],
      ],
    );
    t.same(diskCountersIn(DISK), {
      readRequests: 3n,
      readBytes: 512n,
      writeRequests: 0n,
      writtenBytes: 2n ** 60n,
    });
  },
);

t.test('what libvirt could not say without waiting is missing, and not 0', async (t) => {
  const { 'net.0.tx.pkts': _packets, 'cpu.time': _time, ...rest } = STATS;
  t.equal(cpuNsIn(rest), null);
  t.equal(nicsIn(rest).size, 0, 'counters of a NIC come together or not at all');
  t.equal(diskCountersIn({ ...DISK, wr_req: -1n }), null, 'so do those of a disk');
  t.equal(nicsIn({}).size, 0);
});

t.test('numbers that are none are missing', async (t) => {
  for (const value of [-1n, -1, 1.5, Number.NaN, '12', true, undefined]) {
    t.equal(cpuNsIn({ 'cpu.time': value as bigint }), null, String(value));
  }
});

t.test('the start of a process is found behind a name with spaces and brackets', async (t) => {
  const rest = 'S 1 2 2 0 -1 4 5 6 7 8 9 10 11 12 13 14 15 16 5424520 1530609664 12061';
  t.equal(startTimeIn(`30177 (qemu-system-x86) ${rest}`), '5424520');
  t.equal(startTimeIn(`30177 (a) b) (c) ${rest}`), '5424520');
  t.equal(startTimeIn('30177 (qemu) S 1'), null);
  t.equal(startTimeIn(''), null);
});

t.test('the memory of a process is what its status says, or not known', async (t) => {
  t.equal(residentMibIn('Name:\tqemu\nVmHWM:\t  99999 kB\nVmRSS:\t   48244 kB\nThreads:\t3\n'), 47);
  t.equal(residentMibIn('Name:\tkthreadd\nThreads:\t1\n'), null);
});
