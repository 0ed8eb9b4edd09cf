/**
 * libvirt's errors → AgentError. Pure.
 *
 * A code is chosen by what the caller should do. "Could not be asked" is UNAVAILABLE for a question; for a command
 * that may have been carried out it is DEADLINE_EXCEEDED when the time ran out: the caller has to look first.
 */
import {
  constants,
  LibvirtError,
  LibvirtTransportError,
  LibvirtUsageError,
  type TransportErrorKind,
} from 'node-libvirt';
import { AgentError, type ErrorCode } from '../../model/errors.ts';

/** Whether a call asks, or commands something that may have been done although no answer came. */
export type CallNature = 'question' | 'command';

const NUMBERS = constants.virErrorNumber;

/** What each of libvirt's codes asks of the caller; those left out are INTERNAL. @see virErrorNumber, virterror.h */
const CODES: ReadonlyMap<number, ErrorCode> = new Map<number, ErrorCode>([
  [NUMBERS.VIR_ERR_NO_DOMAIN, 'NOT_FOUND'],
  [NUMBERS.VIR_ERR_NO_DOMAIN_CHECKPOINT, 'NOT_FOUND'],
  [NUMBERS.VIR_ERR_DOM_EXIST, 'ALREADY_EXISTS'],
  [NUMBERS.VIR_ERR_OPERATION_INVALID, 'ILLEGAL_STATE'],
  [NUMBERS.VIR_ERR_NO_MEMORY, 'CAPACITY_EXCEEDED'],
  [NUMBERS.VIR_ERR_NO_SUPPORT, 'UNSUPPORTED'],
  [NUMBERS.VIR_ERR_ARGUMENT_UNSUPPORTED, 'UNSUPPORTED'],
  [NUMBERS.VIR_ERR_OPERATION_UNSUPPORTED, 'UNSUPPORTED'],
  [NUMBERS.VIR_ERR_CONFIG_UNSUPPORTED, 'UNSUPPORTED'],
  [NUMBERS.VIR_ERR_CPU_INCOMPATIBLE, 'UNSUPPORTED'],
  [NUMBERS.VIR_ERR_AUTH_FAILED, 'PERMISSION_DENIED'],
  [NUMBERS.VIR_ERR_AUTH_CANCELLED, 'PERMISSION_DENIED'],
  [NUMBERS.VIR_ERR_AUTH_UNAVAILABLE, 'PERMISSION_DENIED'],
  [NUMBERS.VIR_ERR_ACCESS_DENIED, 'PERMISSION_DENIED'],
  [NUMBERS.VIR_ERR_OPERATION_DENIED, 'PERMISSION_DENIED'],
  [NUMBERS.VIR_ERR_CHECKPOINT_INCONSISTENT, 'DATA_DAMAGED'],
  [NUMBERS.VIR_ERR_XML_ERROR, 'INVALID_ARGUMENT'],
  [NUMBERS.VIR_ERR_XML_DETAIL, 'INVALID_ARGUMENT'],
  [NUMBERS.VIR_ERR_XML_INVALID_SCHEMA, 'INVALID_ARGUMENT'],
  [NUMBERS.VIR_ERR_INVALID_ARG, 'INVALID_ARGUMENT'],
  [NUMBERS.VIR_ERR_INVALID_MAC, 'INVALID_ARGUMENT'],
  [NUMBERS.VIR_ERR_AGENT_UNRESPONSIVE, 'UNAVAILABLE'],
  [NUMBERS.VIR_ERR_AGENT_UNSYNCED, 'UNAVAILABLE'],
  // Another job holds the guest, or QEMU's monitor does not answer: later it may.
  [NUMBERS.VIR_ERR_OPERATION_TIMEOUT, 'UNAVAILABLE'],
  [NUMBERS.VIR_ERR_RESOURCE_BUSY, 'UNAVAILABLE'],
  // A libvirtd that was started anew has no secrets: the next try gives it them again.
  [NUMBERS.VIR_ERR_NO_SECRET, 'UNAVAILABLE'],
  [NUMBERS.VIR_ERR_NO_CONNECT, 'UNAVAILABLE'],
  [NUMBERS.VIR_ERR_INVALID_CONN, 'UNAVAILABLE'],
]);

/**
 * QEMU's words when it cannot get the guest's memory; libvirt passes them on as an internal error.
 * @see QEMU, softmmu/physmem.c and util/oslib-posix.c
 */
const OUT_OF_MEMORY =
  /cannot set up guest memory|Cannot allocate memory|unable to map backing store for guest RAM/;
/** Another domain has the name or the UUID; libvirt says so with VIR_ERR_OPERATION_FAILED. @see virDomainObjListAdd */
const DOMAIN_EXISTS = /^operation failed: domain '.*' (already exists|is already defined) with uuid/;
/** The same of a rename, with VIR_ERR_OPERATION_INVALID. @see qemuDomainRenameCallback, qemu_driver.c */
const NAME_EXISTS = /^Requested operation is not valid: domain with name '.*' already exists/;

/**
 * @param what What could not be done, as 'Cannot start guest X'.
 * @returns The AgentError that says so, with the error as its cause; an AgentError comes back as it is.
 */
export function toAgentError(error: unknown, what: string, nature: CallNature): AgentError {
  if (error instanceof AgentError) return error;
  if (error instanceof LibvirtError) return new AgentError(codeOfAnswer(error), what, { cause: error });
  if (error instanceof LibvirtTransportError) {
    return new AgentError(codeOfSilence(error.kind, nature), what, { cause: error });
  }
  const code = error instanceof LibvirtUsageError ? 'INVALID_ARGUMENT' : 'INTERNAL';
  return new AgentError(code, what, { cause: error });
}

/** Whether libvirt answered with this code. @param name Of virErrorNumber, as 'VIR_ERR_NO_DOMAIN'. */
export function isLibvirtError(error: unknown, name: keyof typeof NUMBERS): error is LibvirtError {
  return error instanceof LibvirtError && error.code === NUMBERS[name];
}

const AGENT_ERRORS = [
  'VIR_ERR_AGENT_UNRESPONSIVE',
  'VIR_ERR_AGENT_COMMAND_FAILED',
  'VIR_ERR_AGENT_COMMAND_TIMEOUT',
  'VIR_ERR_AGENT_UNSYNCED',
] as const;

/** Whether a definition or a rename failed because another domain has the name or UUID. */
export function isDomainExists(error: unknown): boolean {
  if (!(error instanceof LibvirtError)) return false;
  const { code, message } = error;
  return code === NUMBERS.VIR_ERR_DOM_EXIST || DOMAIN_EXISTS.test(message) || NAME_EXISTS.test(message);
}

function codeOfAnswer(error: LibvirtError): ErrorCode {
  if (OUT_OF_MEMORY.test(error.message)) return 'CAPACITY_EXCEEDED';
  if (isDomainExists(error)) return 'ALREADY_EXISTS';
  return CODES.get(error.code) ?? 'INTERNAL';
}

function codeOfSilence(kind: TransportErrorKind, nature: CallNature): ErrorCode {
  switch (kind) {
    case 'timeout':
      return nature === 'question' ? 'UNAVAILABLE' : 'DEADLINE_EXCEEDED';
    case 'aborted':
      return 'CANCELLED';
    case 'auth':
      return 'PERMISSION_DENIED';
    case 'limit':
      return 'LIMIT_REACHED';
    case 'descriptors':
      return 'UNSUPPORTED';
    case 'unreachable':
    case 'closed':
    case 'keepalive':
    case 'protocol':
    case 'truncated':
      return 'UNAVAILABLE';
    default:
      return kind satisfies never;
  }
}

/** The guest's agent is not there, does not answer, or has refused. */
export function isAgentError(error: unknown): boolean {
  return AGENT_ERRORS.some((name) => isLibvirtError(error, name));
}

/** Null where the domain, or the device of the host, is gone meanwhile. */
export async function unlessGone<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN')) return null;
    if (isLibvirtError(error, 'VIR_ERR_NO_NODE_DEVICE')) return null;
    throw error;
  }
}
