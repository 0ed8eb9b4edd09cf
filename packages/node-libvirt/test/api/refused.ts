/**
 * Methods that no daemon carries out on a test machine, with the code with which it refuses, and why.
 *
 * docs/api-untried.md is made of this list by tools/api-untried.ts. Every entry is called by a test, which fails when the
 * method succeeds, unless the entry says where it does.
 */
export interface Refusal {
  /** virErrorNumber's name. */
  code: string;
  /** Why a test machine's daemon does not do it. */
  why: string;
  /** What a machine must have for the method to succeed. @default no machine of a test has it */
  unless?: string;
}

const NEEDS_11_2 = newerThanDaemon('11.2');

function newerThanDaemon(version: string): Refusal {
  const why = 'the daemon of Debian 12 does not know it';
  return { code: 'VIR_ERR_RPC', why, unless: `libvirt ${version} or later` };
}

export const REFUSED: Readonly<Record<string, Refusal>> = {
  'Network.getMetadata': newerThanDaemon('9.7'),
  'Network.setMetadata': newerThanDaemon('9.7'),
  'Connection.domainQemuAttach': {
    code: 'VIR_ERR_NO_SUPPORT',
    why: 'libvirt 5.5 and later no longer attach to a QEMU that they have not started',
  },
  'Connection.domainXMLFromNative': {
    code: 'VIR_ERR_NO_SUPPORT',
    why: 'libvirt 5.5 and later no longer read command lines of QEMU; the drivers that read theirs (LXC, VMware, bhyve) are not there',
  },
  'Connection.nodeGetSEVInfo': {
    code: 'VIR_ERR_OPERATION_UNSUPPORTED',
    why: 'the processor cannot encrypt the memory of guests',
    unless: 'AMD SEV',
  },
  'Connection.nodeSuspendForDuration': {
    code: 'VIR_ERR_ARGUMENT_UNSUPPORTED',
    why: 'it would send the machine to sleep that runs the tests: they ask a daemon without D-Bus',
  },
  'Connection.nodeDeviceLookupSCSIHostByWWN': {
    code: 'VIR_ERR_INTERNAL_ERROR',
    why: 'a test machine has no Fibre Channel adapter; the test driver, which has one, lacks the function',
  },
  'NodeDevice.update': newerThanDaemon('10.1'),
  'Domain.graphicsReload': newerThanDaemon('10.2'),
  'Domain.setLaunchSecurityState': {
    code: 'VIR_ERR_OPERATION_UNSUPPORTED',
    why: 'the guest must run under AMD SEV',
  },
  'Domain.getAutostartOnce': NEEDS_11_2,
  'Domain.setAutostartOnce': NEEDS_11_2,
  'Domain.delThrottleGroup': NEEDS_11_2,
  'Domain.setThrottleGroup': NEEDS_11_2,
};
