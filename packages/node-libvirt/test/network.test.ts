/** What Network does by hand, against a fake daemon: that of an older libvirt is not at hand. */
import t from 'tap';
import { connect } from '../src/connect.ts';
import { FakeDaemon } from './support/fake-daemon.ts';

const UUID = '01234567-89ab-cdef-0123-456789abcdef';
const [COMMAND, SECTION] = [3, 4];
/** VIR_DRV_FEATURE_NETWORK_UPDATE_HAS_CORRECT_ORDER, libvirt_internal.h */
const CORRECT_ORDER = 16;

for (const [which, supported, sent] of [
  ['a newer daemon', 1, [COMMAND, SECTION]],
  ['an older daemon', 0, [SECTION, COMMAND]],
] as const) {
  t.test(`command and section of an update go in the order that ${which} wants`, async (t) => {
    await using daemon = await FakeDaemon.start();
    daemon.on('connectSupportsFeature', (peer, call) => {
      const feature = call.body.readInt32BE(0);
      peer.reply(call, (writer) => writer.int(feature === CORRECT_ORDER ? supported : 1));
    });
    daemon.on('networkUpdate', (peer, call) => peer.reply(call));
    await using connection = await connect('test:///default', { socketPath: daemon.socketPath });
    await connection.objects.network({ name: 'nac', uuid: UUID }).update(COMMAND, SECTION, -1, '<host/>');
    const [call] = daemon.callsOf('networkUpdate');
    t.strictSame(wordsAfterNetwork(call!.body), sent);
  });
}

/** The name "nac" takes 8 bytes, and the UUID 16. */
function wordsAfterNetwork(body: Buffer): number[] {
  return [body.readUInt32BE(24), body.readUInt32BE(28)];
}
