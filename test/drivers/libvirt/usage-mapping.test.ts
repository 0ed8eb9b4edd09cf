import t from 'tap';
import { startTimeIn } from '../../../src/drivers/libvirt/processes.ts';
import { cpuNsIn, disksIn, nicsIn, residentMibIn } from '../../../src/drivers/libvirt/usage-mapping.ts';

/** As libvirt 9.0.0 answers for a guest with a disk and a NIC. */
const STATS = {
  'cpu.time': 459_890_000n,
  'balloon.rss': 48_244n,
  'net.count': 1,
  'net.0.name': 'bt-0123456789a',
  'net.0.rx.bytes': 110n,
  'net.0.rx.pkts': 1n,
  'net.0.tx.bytes': 2n ** 60n,
  'net.0.tx.pkts': 7n,
  'block.count': 2,
  'block.0.name': 'vda',
  'block.0.rd.reqs': 3n,
  'block.0.rd.bytes': 512n,
  'block.0.wr.reqs': 0n,
  'block.0.wr.bytes': 0n,
  'block.1.name': 'sda',
  'block.1.rd.reqs': 9n,
  'block.1.rd.bytes': 9n,
  'block.1.wr.reqs': 9n,
  'block.1.wr.bytes': 9n,
};
const SERIALS = new Map([['vda', 'abc']]);

t.test('what libvirt says of a guest is told by serial and by tap, however large the numbers', async (t) => {
  t.equal(cpuNsIn(STATS), 459_890_000n);
  t.equal(residentMibIn(STATS), 47);
  t.same(
    [...nicsIn(STATS)],
    [['bt-0123456789a', { receivedBytes: 110n, receivedPackets: 1n, sentBytes: 2n ** 60n, sentPackets: 7n }]],
  );
  t.same(
    [...disksIn(STATS, SERIALS)],
    [['abc', { readRequests: 3n, readBytes: 512n, writeRequests: 0n, writtenBytes: 0n }]],
    'a disk without a known serial is nobody’s',
  );
});

t.test('what libvirt could not say without waiting is missing, and not 0', async (t) => {
  const { 'block.0.rd.reqs': _requests, 'cpu.time': _time, 'balloon.rss': _rss, ...rest } = STATS;
  t.equal(cpuNsIn(rest), null);
  t.equal(residentMibIn(rest), null);
  t.equal(disksIn(rest, SERIALS).size, 0, 'counters of a disk come together or not at all');
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
