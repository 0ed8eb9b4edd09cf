/** Domain: its life from definition to undefinition, and what it says of itself. */
import t from 'tap';
import { constants } from '../../src/index.ts';
import { Domain } from '../../src/domain.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { FALLS_ASLEEP, OBEYS_POWER_BUTTON } from './boot-sectors.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { defineGuest, floppy, GUEST_HOST, GUEST_PROGRAMS, guestXml, ifDaemonHas } from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const { virDomainState: state, virDomainMetadataType: metadata } = constants;
const { VIR_DOMAIN_AFFECT_CONFIG: config } = constants.virDomainModificationImpact;

const called = record(Domain, DOMAIN_SHARES, 'life');
const file = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);
const { skip } = file;

t.test('a domain that is off says what it is', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-off' }));
  t.match(domain, { name: 'nad-off', id: -1 });
  t.equal(domain.connection, connection);
  t.match(domain.uuid, /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
  t.equal(await domain.isActive(), false);
  t.equal(await domain.isPersistent(), true);
  t.equal(await domain.isUpdated(), false);
  t.strictSame(await domain.getState(), { state: state.VIR_DOMAIN_SHUTOFF, reason: 0 });
  t.strictSame(await domain.getInfo(), {
    state: state.VIR_DOMAIN_SHUTOFF,
    maxMem: 32_768n,
    memory: 32_768n,
    nrVirtCpu: 1,
    cpuTime: 0n,
  });
  t.equal(await domain.getOSType(), 'hvm');
  t.match(await domain.getXMLDesc(), '<name>nad-off</name>');
  t.strictSame(await domain.getMessages(), []);
});

t.test('a domain is started, paused, resumed, reset and stopped', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const defined = await defineGuest(t, connection, guestXml({ name: 'nad-run' }));
  const domain = await defined.createWithFlags(constants.virDomainCreateFlags.VIR_DOMAIN_START_PAUSED);
  t.ok(domain instanceof Domain && domain.id > 0);
  t.match(domain, { name: 'nad-run', uuid: defined.uuid });
  t.equal(await domain.isActive(), true);
  t.equal((await domain.getState()).state, state.VIR_DOMAIN_PAUSED);
  await domain.resume();
  t.equal((await domain.getState()).state, state.VIR_DOMAIN_RUNNING);
  t.strictSame(await domain.getControlInfo(), { state: 0, details: 0, stateTime: 0n });
  t.ok((await domain.getInfo()).cpuTime > 0n);
  await domain.reset();
  await domain.suspend();
  t.equal((await domain.getState()).state, state.VIR_DOMAIN_PAUSED);
  await domain.destroyFlags(constants.virDomainDestroyFlagsValues.VIR_DOMAIN_DESTROY_GRACEFUL);
  t.equal(await domain.isActive(), false);
});

t.test('a domain that is destroyed can be started again, and undefined', { skip }, async (t) => {
  const connection = await file.connectionTo('test:///default');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-again', type: 'test' }));
  await domain.create();
  t.equal(await domain.isActive(), true);
  await domain.destroy();
  t.strictSame(await domain.getState(), {
    state: state.VIR_DOMAIN_SHUTOFF,
    reason: constants.virDomainShutoffReason.VIR_DOMAIN_SHUTOFF_DESTROYED,
  });
  await domain.undefine();
  t.match(await failureOf(domain.getState()), { codeName: 'VIR_ERR_NO_DOMAIN' });
  const again = await defineGuest(t, connection, guestXml({ name: 'nad-again', type: 'test' }));
  await again.undefineFlags(constants.virDomainUndefineFlagsValues.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE);
  t.match(await failureOf(again.isActive()), { codeName: 'VIR_ERR_NO_DOMAIN' });
});

t.test('a guest that is asked to restart and to shut down does so', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const devices = floppy(file.daemon().host.dir, OBEYS_POWER_BUTTON);
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-obeys', devices }));
  let restarts = 0;
  const stop = await connection.onEvent('domain', 'reboot', () => restarts++, { domain });
  await domain.create();
  await until(() => waitsForPowerButton(domain), 'the guest waits for the power button');
  await domain.reboot(constants.virDomainRebootFlagValues.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN);
  await until(() => restarts === 1, 'the guest restarts');
  await until(() => waitsForPowerButton(domain), 'the guest has restarted');
  await domain.shutdownFlags(constants.virDomainShutdownFlagValues.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
  await until(async () => !(await domain.isActive()), 'the guest is off');
  const { VIR_DOMAIN_SHUTOFF_SHUTDOWN: reason } = constants.virDomainShutoffReason;
  t.strictSame(await domain.getState(), { state: state.VIR_DOMAIN_SHUTOFF, reason });
  await stop();
});

/** Asks QEMU for the register that OBEYS_POWER_BUTTON sets. */
async function waitsForPowerButton(domain: Domain): Promise<boolean> {
  const { VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP: hmp } = constants.virDomainQemuMonitorCommandFlags;
  return (await domain.qemuMonitorCommand('i /hx 0x602', hmp)).includes('= 0x0100');
}

t.test('how a guest is asked to shut down may be left to libvirt', { skip }, async (t) => {
  const connection = await file.connectionTo('test:///default');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-shutdown', type: 'test' }));
  await domain.create();
  await domain.shutdown();
  t.equal(await domain.isActive(), false);
});

t.test('a guest that sleeps is woken', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const devices = floppy(file.daemon().host.dir, FALLS_ASLEEP);
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-sleeps', devices }));
  const stateIs = (wanted: number) => async () => (await domain.getState()).state === wanted;
  await domain.create();
  await until(stateIs(state.VIR_DOMAIN_PMSUSPENDED), 'the guest sleeps');
  await domain.pmWakeup();
  await until(stateIs(state.VIR_DOMAIN_RUNNING), 'the guest is awake');
});

t.test('a domain can be renamed', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-old' }));
  await domain.rename('nad-new');
  t.equal((await connection.domainLookupByName('nad-new')).uuid, domain.uuid);
  t.match(await failureOf(connection.domainLookupByName('nad-old')), { codeName: 'VIR_ERR_NO_DOMAIN' });
});

t.test('a domain starts with the host, or does not', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-autostart' }));
  t.equal(await domain.getAutostart(), false);
  await domain.setAutostart(true);
  t.equal(await domain.getAutostart(), true);
  await domain.setAutostart(false);
  t.equal(await domain.getAutostart(), false);
});

t.test('a domain starts with the host, and only the next time', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-once' }));
  await ifDaemonHas('11.2.0', domain.setAutostartOnce(true));
  t.equal((await ifDaemonHas('11.2.0', domain.getAutostartOnce())) ?? true, true);
});

t.test('what users write about a domain is kept', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-notes' }));
  const uri = 'urn:nad:notes';
  await domain.setMetadata(metadata.VIR_DOMAIN_METADATA_DESCRIPTION, 'Größe: 32 MiB');
  t.equal(await domain.getMetadata(metadata.VIR_DOMAIN_METADATA_DESCRIPTION), 'Größe: 32 MiB');
  await domain.setMetadata(metadata.VIR_DOMAIN_METADATA_ELEMENT, '<note by="nad"/>', 'nad', uri, config);
  t.match(await domain.getMetadata(metadata.VIR_DOMAIN_METADATA_ELEMENT, uri), /by=['"]nad['"]/);
  await domain.setMetadata(metadata.VIR_DOMAIN_METADATA_DESCRIPTION, null);
  t.match(await failureOf(domain.getMetadata(metadata.VIR_DOMAIN_METADATA_DESCRIPTION)), {
    codeName: 'VIR_ERR_NO_DOMAIN_METADATA',
  });
});

t.test('what happens to a domain when its guest stops can be changed', { skip }, async (t) => {
  const connection = await file.connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-lifecycle' }));
  const { virDomainLifecycle: cycle, virDomainLifecycleAction: action } = constants;
  await domain.setLifecycleAction(
    cycle.VIR_DOMAIN_LIFECYCLE_REBOOT,
    action.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY,
    config,
  );
  t.match(await domain.getXMLDesc(), '<on_reboot>destroy</on_reboot>');
});

t.test('every method of Domain for its life was called', { skip }, (t) => called.check(t));
