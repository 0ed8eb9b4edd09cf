/**
 * What tools/api-plan.ts cannot see in libvirt's files: which classes there are, and where a function is an exception.
 */

/** One class of the API: the functions whose first argument is a pointer of this kind are its methods. */
export interface ApiClass {
  /** The C type of the first argument. */
  pointer: string;
  /** The class, and in kebab case its file. */
  name: string;
  /** What is left out of a function's name, after "vir": a pattern. */
  prefix: string;
  /** The type on the wire, without the program; null for the connection, which is not sent. */
  wire: string | null;
}

export const CLASSES: readonly ApiClass[] = [
  { pointer: 'virConnectPtr', name: 'Connection', prefix: 'Connect', wire: null },
  { pointer: 'virDomainPtr', name: 'Domain', prefix: 'Domain', wire: 'nonnull_domain' },
  {
    pointer: 'virDomainSnapshotPtr',
    name: 'DomainSnapshot',
    prefix: 'Domain(?:Snapshot)?',
    wire: 'nonnull_domain_snapshot',
  },
  {
    pointer: 'virDomainCheckpointPtr',
    name: 'DomainCheckpoint',
    prefix: 'DomainCheckpoint',
    wire: 'nonnull_domain_checkpoint',
  },
  { pointer: 'virStoragePoolPtr', name: 'StoragePool', prefix: 'StoragePool', wire: 'nonnull_storage_pool' },
  { pointer: 'virStorageVolPtr', name: 'StorageVolume', prefix: 'StorageVol', wire: 'nonnull_storage_vol' },
  { pointer: 'virNetworkPtr', name: 'Network', prefix: 'Network', wire: 'nonnull_network' },
  { pointer: 'virNetworkPortPtr', name: 'NetworkPort', prefix: 'NetworkPort', wire: 'nonnull_network_port' },
  { pointer: 'virInterfacePtr', name: 'Interface', prefix: 'Interface', wire: 'nonnull_interface' },
  { pointer: 'virNodeDevicePtr', name: 'NodeDevice', prefix: 'NodeDevice', wire: 'nonnull_node_device' },
  { pointer: 'virSecretPtr', name: 'Secret', prefix: 'Secret', wire: 'nonnull_secret' },
  { pointer: 'virNWFilterPtr', name: 'NwFilter', prefix: 'NWFilter', wire: 'nonnull_nwfilter' },
  {
    pointer: 'virNWFilterBindingPtr',
    name: 'NwFilterBinding',
    prefix: 'NWFilterBinding',
    wire: 'nonnull_nwfilter_binding',
  },
];

/** Functions that have no generated method. */
export interface Exception {
  functions: RegExp;
  /** 'byHand': src/ has a method of that name; 'other': covered by another means; 'never': it cannot be had. */
  kind: 'byHand' | 'other' | 'never';
  /** For the table in docs/api.md. */
  why: string;
}

/** The first that matches a function's name counts. */
export const EXCEPTIONS: readonly Exception[] = [
  {
    functions: /^virConnectGetAllDomainStats$|^virDomain(ListGetStats|GetCPUStats)$/,
    kind: 'byHand',
    why: '',
  },
  { functions: /^virDomainMigrate(2|3|ToURI|ToURI2|ToURI3)?$/, kind: 'byHand', why: '' },
  { functions: /^virDomainQemuAgentCommand$|^virNetworkUpdate$/, kind: 'byHand', why: '' },
  {
    functions:
      /^virDomain(CreateXMLWithFiles|CreateWithFiles|OpenGraphics|OpenGraphicsFD|FDAssociate)$|WithFiles$/,
    kind: 'never',
    why: 'passes file descriptors, which Node.js can neither send nor receive',
  },
  { functions: /^virConnectOpen(Auth|ReadOnly)?$/, kind: 'other', why: '`connect(uri, { readOnly, auth })`' },
  { functions: /^virConnectClose$/, kind: 'other', why: '`connection.close()`' },
  { functions: /^virConnectSetKeepAlive$/, kind: 'other', why: '`connect(uri, { keepalive })`' },
  { functions: /^virConnectIsAlive$/, kind: 'other', why: '`connection.state`' },
  {
    functions: /^virConnect\w*(EventRegister|EventDeregister)(Any)?$/,
    kind: 'other',
    why: '`connection.onEvent()` and `connection.events()`',
  },
  {
    functions: /^virConnect(Unr|R)egisterCloseCallback$/,
    kind: 'other',
    why: "`connection.onStateChange()`, and `onEvent('connection', 'closed')` for a daemon behind the daemon",
  },
  { functions: /^virEvent/, kind: 'other', why: 'Node.js has its event loop' },
  {
    functions: /^virStream/,
    kind: 'other',
    why: 'a stream is a Duplex: `write`, `pipe`, `for await`, `destroy`',
  },
  { functions: /^virTypedParam/, kind: 'other', why: 'typed parameters are plain objects' },
  {
    functions: /^vir(Conn)?(Copy|Get|Reset|Set|Save|Free|Default)(Last)?Error|^virInitialize$/,
    kind: 'other',
    why: 'errors are thrown; there is nothing to set up',
  },
  { functions: /(Free|Ref)$/, kind: 'other', why: 'memory is collected' },
  {
    functions: /GetConnect$|Get(Domain|Network)$/,
    kind: 'other',
    why: 'a property: `domain.connection`, `snapshot.dom`',
  },
  {
    functions: /Get(Name|ID|UUID|UUIDString|Key|MACString|UsageID|UsageType|PortDev|FilterName)$/,
    kind: 'other',
    why: 'a property: `domain.name`, `domain.id`, `domain.uuid`, `volume.key`, `iface.mac`, `secret.usageID`',
  },
  {
    functions: /^virConnectSetIdentity$/,
    kind: 'never',
    why: 'an identity is that of one socket, and a Connection has several',
  },
  {
    functions: /^virConnectIsEncrypted$/,
    kind: 'other',
    why: 'the transport in the URI says so: TLS and ssh are',
  },
  {
    functions: /^virGetVersion$/,
    kind: 'other',
    why: "`PROTOCOL_VERSION`; the daemon's is `getLibVersion()`",
  },
  { functions: /^virDomainCreateLinux$/, kind: 'other', why: 'an old name of `domainCreateXML()`' },
];

/** Calls that must get through when others hang. The rest goes by the priority that libvirt gives them. */
export const CONTROL_CALLS = /^virDomain(Destroy|DestroyFlags|AbortJob|AbortJobFlags)$/;

/** Calls that libvirt gives a high priority, and which yet may ask QEMU for its capabilities or wait for the disk. */
export const LONG_CALLS =
  /(Define|Create)(XML|XMLFlags)$|^virStoragePoolDestroy$|^virNodeDevice(Create|Destroy)$/;

/** Functions that answer or take 0 and 1 for no and yes. */
export const BOOLEAN_RESULTS =
  /^vir\w+(Is[A-Z][a-z]+|HasManagedSaveImage|HasCurrentSnapshot|HasMetadata|GetAutostart|GetAutostartOnce)$/;
export const BOOLEAN_ARGUMENTS = /^(autostart|state)$/;

/** Functions whose result is always 0: what fails is an error. */
export const STATUS_RESULTS = /^virDomain(Rename|AgentSetResponseTimeout)$/;

/**
 * Functions with texts that the protocol lets be absent and libvirt does not. Without its XML, ManagedSaveDefineXML
 * makes libvirtd 9.0 crash.
 */
export const REQUIRED_TEXTS =
  /^virDomain(Rename|SetUserPassword|DelThrottleGroup|GetBlockIoTune|ManagedSaveDefineXML)$/;

/**
 * Defaults of parameters, besides null where that may be given. An empty list of mount points means all of them; offset 0
 * and length 0 mean the whole of a volume.
 */
export const DEFAULTS: Readonly<Record<string, string>> = {
  flags: '0',
  types: '0',
  mountpoints: '[]',
  offset: '0',
  length: '0',
};

/** 64-bit results that are small by what they mean: versions. */
export const SMALL_RESULTS = /^virConnectGet(Lib)?Version$/;

/** Functions that leave out parameters that are strings unless a flag asks for them. @see VIR_TYPED_PARAM_STRING_OKAY */
export const STRINGS_ON_REQUEST =
  /^vir(DomainGet(Memory|Numa|Blkio|Interface)Parameters|DomainGetSchedulerParametersFlags|DomainBlockStatsFlags|DomainGetBlockIoTune|NodeGetMemoryParameters)$/;
