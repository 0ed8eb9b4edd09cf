import t from 'tap';
import { Gate } from '../../../src/drivers/folder/gate.ts';
import { CallLimit } from '../../../src/drivers/host/call-limit.ts';
import { AgentError } from '../../../src/model/errors.ts';

function limitOf(signal?: AbortSignal): CallLimit {
  return new CallLimit('a call', signal === undefined ? {} : { signal }, 60_000);
}

t.test('a disk that hangs has two calls at most, and the others end by their deadlines', async (t) => {
  const gate = new Gate();
  const answers = [Promise.withResolvers<number>(), Promise.withResolvers<number>()];
  const controller = new AbortController();
  using ended = limitOf(controller.signal);
  using limit = limitOf();
  let begun = 0;
  const hang = (at: number) => () => {
    begun++;
    return answers[at]?.promise as Promise<number>;
  };
  const hanging = [gate.run(ended, hang(0)), gate.run(ended, hang(1))];
  const waiting = gate.run(ended, hang(0));
  const patient = gate.run(limit, async () => ++begun);
  controller.abort(new AgentError('DEADLINE_EXCEEDED', 'not in time'));
  for (const call of [...hanging, waiting]) await t.rejects(call, { code: 'DEADLINE_EXCEEDED' });
  t.equal(begun, 2, 'whoever waits is not with the system, also when the others were given up');
  answers[1]?.resolve(0);
  t.equal(await patient, 3, 'a place is free again when the system has answered');
  answers[0]?.reject(new Error('EIO'));
});

t.test('what fails gives its place back', async (t) => {
  const gate = new Gate();
  using limit = limitOf();
  for (let i = 0; i < 5; i++) await t.rejects(gate.run(limit, () => Promise.reject(new Error('no'))));
  t.equal(await gate.run(limit, async () => 1), 1);
});
