import t from 'tap';
import { dnsmasqConfig } from '../../../src/drivers/bridge/dnsmasq-config.ts';
import { networkFiles } from '../../../src/drivers/bridge/names.ts';
import { checkNetwork, checkPort } from '../../../src/drivers/bridge/plans.ts';
import { ruleset } from '../../../src/drivers/bridge/ruleset.ts';
import fc from '../../property.ts';
import { anyPlan, SAMPLES } from './plan-samples.ts';

const PLAN = SAMPLES['nat-dhcp']!;
const TEXT_KEYS = ['id', 'name', 'bridge', 'cidr', 'gatewayAddress'] as const;

t.test('every well-formed plan passes', async () => {
  fc.assert(fc.property(anyPlan, (plan) => checkNetwork(plan)));
});

t.test('a plan with any text put into any of its keys is refused, or is still free of syntax', async (t) => {
  fc.assert(
    fc.property(fc.constantFrom(...TEXT_KEYS), fc.string(), fc.nat({ max: 40 }), (key, text, at) => {
      const value = PLAN[key].slice(0, at) + text + PLAN[key].slice(at);
      const plan = { ...PLAN, [key]: value };
      try {
        checkNetwork(plan);
      } catch (thrown) {
        t.match(thrown, { code: 'INVALID_ARGUMENT' });
        return;
      }
      t.match(value, /^[a-z0-9./-]+$/);
      const lines = (text: string) => text.split('\n').length;
      const files = networkFiles('/run', PLAN.id);
      t.equal(lines(ruleset(plan)), lines(ruleset(PLAN)));
      t.equal(
        lines(dnsmasqConfig(plan, files, { user: null })),
        lines(dnsmasqConfig(PLAN, files, { user: null })),
      );
    }),
  );
});

t.test('a plan with a key too many or too few is refused', async (t) => {
  const { name, ...rest } = PLAN;
  t.throws(() => checkNetwork(rest as typeof PLAN), { code: 'INVALID_ARGUMENT', message: /name/ });
  t.throws(() => checkNetwork({ ...PLAN, vlan: 7 } as typeof PLAN), {
    code: 'INVALID_ARGUMENT',
    message: /vlan/,
  });
  t.equal(name, 'default');
});

t.test('ranges that no guest can use are refused with the range', async (t) => {
  for (const [cidr, gatewayAddress] of [
    ['127.0.0.0/16', '127.0.0.1'],
    ['169.254.0.0/24', '169.254.0.1'],
    ['224.0.0.0/24', '224.0.0.1'],
    ['0.0.0.0/16', '0.0.0.1'],
  ] as const) {
    t.throws(() => checkNetwork({ ...PLAN, cidr, gatewayAddress }), {
      code: 'INVALID_ARGUMENT',
      message: /no guest/,
    });
  }
});

t.test('a network with host bits is refused with the network that is meant', async (t) => {
  t.throws(() => checkNetwork({ ...PLAN, cidr: '10.80.0.5/24' }), { message: /10\.80\.0\.0/ });
});

t.test('a port of a malformed network is refused for the network', async (t) => {
  const port = { id: PLAN.id, macAddress: '52:54:00:00:00:01', ipAddress: '10.80.0.10', hostname: 'web' };
  checkPort(PLAN, port);
  t.throws(() => checkPort({ ...PLAN, cidr: '10.80.0.0/8' }, port), {
    code: 'INVALID_ARGUMENT',
    message: /network/,
  });
});
