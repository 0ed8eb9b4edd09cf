import t from 'tap';
import { holdersIn } from '../../../src/drivers/bridge/links.ts';

/** As iproute2 6.1 writes it. */
const TEXT = `bt-alone: tap persist
\tAttached to processes:
bt-one: tap vnet_hdr
\tAttached to processes:qemu-system-x86(12000)
bt-two: tap
\tAttached to processes:python3(12070)python3(12132)
`;

t.test('the processes that hold a tap are told, each with its number', (t) => {
  t.same(holdersIn(TEXT, 'bt-one'), ['qemu-system-x86 (12000)']);
  t.same(holdersIn(TEXT, 'bt-two'), ['python3 (12070)', 'python3 (12132)']);
  t.end();
});

t.test('a tap that nobody holds, and one that is not there, have none', (t) => {
  t.same(holdersIn(TEXT, 'bt-alone'), []);
  t.same(holdersIn(TEXT, 'bt-t'), []);
  t.same(holdersIn('', 'bt-one'), []);
  t.end();
});
