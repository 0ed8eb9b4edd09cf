/** The command line of the fleet, and what the machine has to allow. */
import { CommanderError } from 'commander';
import t from 'tap';
import { shareOf } from '../../fleet/fleet.ts';
import { assertRoomFor } from '../../fleet/limits.ts';
import { readOptions, SCENARIOS } from '../../fleet/options.ts';

function refused(...argv: string[]): string {
  let said = '';
  t.throws(() => readOptions(argv, (text) => (said += text)), CommanderError, argv.join(' '));
  return said;
}

t.test('what is not said has a default', async (t) => {
  t.match(readOptions([]), { agents: 1_000, full: 0, processes: 1, tls: false, json: false, seed: 1 });
  t.same(readOptions([]).scenarios, SCENARIOS);
  t.equal(readOptions(['--agents', '10000']).processes, 4);
  t.ok(Object.isFrozen(readOptions([])));
});

t.test('scenarios are played in their own order, each once', async (t) => {
  const { scenarios } = readOptions(['--scenario', 'crash', 'steady', 'crash']);
  t.same(scenarios, ['steady', 'crash']);
});

t.test('values that are not allowed are refused, with the usage', async (t) => {
  for (const value of ['0', '-1', '1.5', '1e3', '20001', 'many', '', ' 5', '0x10', 'NaN', 'Infinity']) {
    t.match(refused(`--agents=${value}`), /whole number, 1 to 20000[\s\S]*Usage/, value);
  }
  t.match(refused('--full', '501'), /0 to 500/);
  t.match(refused('--processes', '33'), /1 to 32/);
  t.match(refused('--seed', '4294967296'), /4294967295/);
  t.match(refused('--scenario', 'earthquake'), /steady, commands/);
  t.match(refused('--agents', '2', '--full', '3'), /--full 3 of 2 agents/);
  t.match(refused('--agents', '2', '--processes', '3'), /--processes 3 for 2 agents/);
  t.match(refused('--no-such'), /unknown option/);
  t.match(refused('more'), /too many arguments/);
});

t.test('a machine that does not allow so many agents is told of before any is made', async (t) => {
  const limits = { openFiles: 4_096, ports: 10_000 };
  t.doesNotThrow(() => assertRoomFor(1_000, limits));
  t.throws(() => assertRoomFor(4_000, limits), { code: 'LIMIT_REACHED', hint: /ulimit -n 5000/ });
  const ports = { openFiles: 100_000, ports: 10_000 };
  t.throws(() => assertRoomFor(6_000, ports), { code: 'LIMIT_REACHED', hint: /ip_local_port_range/ });
  t.doesNotThrow(() => assertRoomFor(1), 'by the limits of this machine');
});

t.test('every agent is in one process', async (t) => {
  const shares = [0, 1, 2, 3].map((index) => shareOf(10, 4, index));
  t.same(shares, [3, 3, 2, 2]);
});
