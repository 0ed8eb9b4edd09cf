/**
 * libvirt's errors as a caller of the driver sees them.
 */
import { constants, LibvirtError, LibvirtTransportError, LibvirtUsageError } from 'node-libvirt';
import t from 'tap';
import { isDomainExists, toAgentError } from '../../../src/drivers/libvirt/errors.ts';
import { AgentError } from '../../../src/model/errors.ts';

function answer(name: keyof typeof constants.virErrorNumber, message = 'words of libvirt'): LibvirtError {
  return new LibvirtError(
    { code: constants.virErrorNumber[name], domain: 10, level: 2, message },
    'domainCreate',
  );
}

const codeOf = (error: unknown) => toAgentError(error, 'Cannot start guest X', 'command').code;

t.test('an answer of libvirt has the code for what the caller should do', async (t) => {
  t.equal(codeOf(answer('VIR_ERR_NO_DOMAIN')), 'NOT_FOUND');
  t.equal(codeOf(answer('VIR_ERR_OPERATION_INVALID')), 'ILLEGAL_STATE');
  t.equal(codeOf(answer('VIR_ERR_AGENT_UNRESPONSIVE')), 'UNAVAILABLE');
  t.equal(codeOf(answer('VIR_ERR_OPERATION_TIMEOUT')), 'UNAVAILABLE');
  t.equal(codeOf(answer('VIR_ERR_NO_SUPPORT')), 'UNSUPPORTED');
  t.equal(codeOf(answer('VIR_ERR_ARGUMENT_UNSUPPORTED')), 'UNSUPPORTED');
  t.equal(codeOf(answer('VIR_ERR_XML_ERROR')), 'INVALID_ARGUMENT');
  t.equal(codeOf(answer('VIR_ERR_ACCESS_DENIED')), 'PERMISSION_DENIED');
  t.equal(codeOf(answer('VIR_ERR_INTERNAL_ERROR')), 'INTERNAL');
});

t.test('a host without the memory is recognised by the words of QEMU', async (t) => {
  const words = "internal error: qemu unexpectedly closed the monitor: cannot set up guest memory 'pc.ram'";
  t.equal(codeOf(answer('VIR_ERR_INTERNAL_ERROR', words)), 'CAPACITY_EXCEEDED');
  t.equal(codeOf(answer('VIR_ERR_NO_MEMORY')), 'CAPACITY_EXCEEDED');
});

t.test('a name or UUID that another domain has is recognised by the words of libvirt', async (t) => {
  const named = answer(
    'VIR_ERR_OPERATION_FAILED',
    "operation failed: domain 'a' already exists with uuid 1-2",
  );
  const other = answer(
    'VIR_ERR_OPERATION_FAILED',
    "operation failed: domain 'a' is already defined with uuid 1-2",
  );
  t.ok(isDomainExists(named));
  t.ok(isDomainExists(other));
  t.ok(isDomainExists(answer('VIR_ERR_DOM_EXIST')));
  t.notOk(isDomainExists(answer('VIR_ERR_OPERATION_FAILED', 'operation failed: something else')));
});

t.test('silence is UNAVAILABLE to a question, and a missed deadline to a command', async (t) => {
  const timeout = new LibvirtTransportError('timeout', 'no reply');
  t.equal(toAgentError(timeout, 'Cannot observe', 'question').code, 'UNAVAILABLE');
  t.equal(toAgentError(timeout, 'Cannot start', 'command').code, 'DEADLINE_EXCEEDED');
  for (const kind of ['unreachable', 'closed', 'keepalive', 'protocol'] as const) {
    t.equal(codeOf(new LibvirtTransportError(kind, 'no reply')), 'UNAVAILABLE', kind);
  }
  t.equal(codeOf(new LibvirtTransportError('aborted', 'by the caller')), 'CANCELLED');
  t.equal(codeOf(new LibvirtTransportError('limit', 'too many')), 'LIMIT_REACHED');
});

t.test('an error says what could not be done, and keeps its cause; one of ours stays as it is', async (t) => {
  const cause = answer('VIR_ERR_NO_DOMAIN');
  const error = toAgentError(cause, 'Cannot start guest X', 'command');
  t.equal(error.toBody().message, 'Cannot start guest X: words of libvirt');
  t.equal(error.cause, cause);
  const ours = new AgentError('HOST_CONFLICT', 'not ours');
  t.equal(toAgentError(ours, 'Cannot start guest X', 'command'), ours);
  t.equal(codeOf(new LibvirtUsageError('not a UUID')), 'INVALID_ARGUMENT');
  t.equal(codeOf(new RangeError('a defect')), 'INTERNAL');
});
