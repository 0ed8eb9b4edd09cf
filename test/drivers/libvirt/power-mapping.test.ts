/**
 * States, reasons and events of libvirt: every number that its header has, and those that it has not.
 */
import { constants } from 'node-libvirt';
import t from 'tap';
import {
  meaningOfEvent,
  powerOfState,
  watchdogActionOf,
} from '../../../src/drivers/libvirt/power-mapping.ts';
import { POWER_STATES } from '../../../src/model/instance.ts';
import fc from '../../property.ts';

const STATE = constants.virDomainState;
const EVENT = constants.virDomainEventType;

t.test('each state has its power', async (t) => {
  const expected = {
    [STATE.VIR_DOMAIN_NOSTATE]: 'unknown',
    [STATE.VIR_DOMAIN_RUNNING]: 'running',
    [STATE.VIR_DOMAIN_BLOCKED]: 'running',
    [STATE.VIR_DOMAIN_PAUSED]: 'paused',
    [STATE.VIR_DOMAIN_SHUTDOWN]: 'stopping',
    [STATE.VIR_DOMAIN_SHUTOFF]: 'stopped',
    [STATE.VIR_DOMAIN_CRASHED]: 'crashed',
    [STATE.VIR_DOMAIN_PMSUSPENDED]: 'paused',
  };
  for (const [state, power] of Object.entries(expected)) {
    t.equal(powerOfState(Number(state), 0).power, power, `state ${state}`);
  }
});

t.test('the reason decides where the state alone would mislead', async (t) => {
  const shutoff = constants.virDomainShutoffReason;
  const paused = constants.virDomainPausedReason;
  t.match(powerOfState(STATE.VIR_DOMAIN_SHUTOFF, shutoff.VIR_DOMAIN_SHUTOFF_CRASHED), { power: 'crashed' });
  t.match(powerOfState(STATE.VIR_DOMAIN_SHUTOFF, shutoff.VIR_DOMAIN_SHUTOFF_FAILED), { power: 'stopped' });
  t.match(powerOfState(STATE.VIR_DOMAIN_PAUSED, paused.VIR_DOMAIN_PAUSED_CRASHED), { power: 'crashed' });
  t.match(powerOfState(STATE.VIR_DOMAIN_PAUSED, paused.VIR_DOMAIN_PAUSED_SHUTTING_DOWN), {
    power: 'stopping',
  });
});

t.test('a state that no header has is unknown, never stopped', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: STATE.VIR_DOMAIN_LAST }), fc.integer(), (state, reason) => {
      return powerOfState(state, reason).power === 'unknown';
    }),
  );
  t.equal(powerOfState(Number.NaN, Number.NaN).power, 'unknown');
});

t.test('every state and reason, known or not, has a power and words', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: -1, max: 20 }), fc.integer({ min: -1, max: 20 }), (state, reason) => {
      const observed = powerOfState(state, reason);
      return POWER_STATES.includes(observed.power) && observed.reason.length > 0;
    }),
  );
  t.pass('all of them');
});

t.test('events that say all are believed', async (t) => {
  const started = constants.virDomainEventStartedDetailType;
  const stopped = constants.virDomainEventStoppedDetailType;
  const meaning = (event: number, detail: number) => meaningOfEvent(event, detail, true);
  t.match(meaning(EVENT.VIR_DOMAIN_EVENT_STARTED, started.VIR_DOMAIN_EVENT_STARTED_BOOTED), {
    power: 'running',
  });
  t.match(meaning(EVENT.VIR_DOMAIN_EVENT_SUSPENDED, 0), { power: 'paused' });
  t.match(meaning(EVENT.VIR_DOMAIN_EVENT_RESUMED, 0), { power: 'running' });
  t.match(meaning(EVENT.VIR_DOMAIN_EVENT_STOPPED, stopped.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN), {
    power: 'stopped',
  });
  t.match(meaning(EVENT.VIR_DOMAIN_EVENT_STOPPED, stopped.VIR_DOMAIN_EVENT_STOPPED_CRASHED), {
    power: 'crashed',
  });
  t.match(meaning(EVENT.VIR_DOMAIN_EVENT_SHUTDOWN, 1), { power: 'stopping' });
  t.match(meaning(EVENT.VIR_DOMAIN_EVENT_CRASHED, 0), { power: 'crashed' });
});

t.test('a definition or its end says nothing of a domain that runs', async (t) => {
  t.match(meaningOfEvent(EVENT.VIR_DOMAIN_EVENT_DEFINED, 0, false), { power: 'stopped' });
  t.equal(meaningOfEvent(EVENT.VIR_DOMAIN_EVENT_DEFINED, 0, true), 'ask');
  t.equal(
    meaningOfEvent(EVENT.VIR_DOMAIN_EVENT_DEFINED, 1, false),
    'ask',
    'an update leaves the power as it was',
  );
  t.equal(meaningOfEvent(EVENT.VIR_DOMAIN_EVENT_UNDEFINED, 0, false), 'gone');
  t.equal(meaningOfEvent(EVENT.VIR_DOMAIN_EVENT_UNDEFINED, 0, true), 'ask', 'it goes on running without one');
  t.equal(meaningOfEvent(EVENT.VIR_DOMAIN_EVENT_UNDEFINED, 1, false), 'ask', 'a renamed one is still there');
});

t.test('events that are ambiguous, or that no header has, make the host be asked', async (t) => {
  const failed = constants.virDomainEventStoppedDetailType.VIR_DOMAIN_EVENT_STOPPED_FAILED;
  t.equal(meaningOfEvent(EVENT.VIR_DOMAIN_EVENT_STOPPED, failed, false), 'ask');
  fc.assert(
    fc.property(
      fc.integer({ min: EVENT.VIR_DOMAIN_EVENT_LAST }),
      fc.integer(),
      fc.boolean(),
      (event, detail, active) => {
        return meaningOfEvent(event, detail, active) === 'ask';
      },
    ),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 8 }), fc.integer({ min: 20 }), (event, detail) => {
      return meaningOfEvent(event, detail, false) === 'ask';
    }),
  );
});

t.test('only a guest that has shut down by itself is told to have', async (t) => {
  const { VIR_DOMAIN_SHUTOFF } = constants.virDomainState;
  const reasons = constants.virDomainShutoffReason;
  t.equal(powerOfState(VIR_DOMAIN_SHUTOFF, reasons.VIR_DOMAIN_SHUTOFF_SHUTDOWN).stoppedBy, 'guest');
  for (const [name, reason] of Object.entries(reasons)) {
    if (name === 'VIR_DOMAIN_SHUTOFF_SHUTDOWN') continue;
    t.equal(powerOfState(VIR_DOMAIN_SHUTOFF, reason).stoppedBy, undefined, name);
  }
});

t.test('a watchdog’s action has a word, and what no header has is another', async (t) => {
  const actions = constants.virDomainEventWatchdogAction;
  t.equal(watchdogActionOf(actions.VIR_DOMAIN_EVENT_WATCHDOG_NONE), 'report');
  t.equal(watchdogActionOf(actions.VIR_DOMAIN_EVENT_WATCHDOG_RESET), 'reset');
  t.equal(watchdogActionOf(actions.VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF), 'poweroff');
  t.equal(watchdogActionOf(actions.VIR_DOMAIN_EVENT_WATCHDOG_PAUSE), 'pause');
  for (const number of [4, 5, 6, 99, -1]) t.equal(watchdogActionOf(number), 'other', String(number));
});
