/** Rows of networks and of the ports on them. */
import type { NetworkPlan } from '../../drivers/contracts/network.ts';
import { AgentError } from '../../model/errors.ts';
import type { Network } from '../../model/network.ts';
import type { Database, Row } from '../../sqlite/database.ts';

export interface Port {
  id: string;
  instanceId: string;
  networkId: string;
  macAddress: string;
  ipAddress: string;
  tapName: string;
}

export class NetworkStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(plan: NetworkPlan, createdAt: string): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        "INSERT INTO networks (id, name, bridge, cidr, gateway_address, nat, dhcp, dns_servers, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'creating', ?)",
      )
      .run(
        plan.id,
        plan.name,
        plan.bridge,
        plan.cidr,
        plan.gatewayAddress,
        Number(plan.nat),
        Number(plan.dhcp),
        JSON.stringify(plan.dnsServers),
        createdAt,
      );
  }

  setState(id: string, state: Network['state']): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE networks SET state = ? WHERE id = ?').run(state, id);
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM networks WHERE id = ?').run(id);
  }

  list(): Network[] {
    return this.#db.sql(`${SELECT_NETWORK} ORDER BY name`).all().map(toNetwork);
  }

  find(nameOrId: string): Network | null {
    const row = this.#db.sql(`${SELECT_NETWORK} WHERE id = ? OR name = ?`).get(nameOrId, nameOrId);
    return row === undefined ? null : toNetwork(row);
  }

  /** @throws {AgentError} NOT_FOUND */
  get(nameOrId: string): Network {
    const network = this.find(nameOrId);
    if (network !== null) return network;
    throw new AgentError('NOT_FOUND', `No network ${nameOrId} on this node`, {
      hint: 'List them with `berth network list`, or create it.',
    });
  }

  insertPort(port: Port, position: number): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO ports (id, instance_id, network_id, position, mac_address, ip_address, tap_name) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(port.id, port.instanceId, port.networkId, position, port.macAddress, port.ipAddress, port.tapName);
  }

  removePortsOf(instanceId: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM ports WHERE instance_id = ?').run(instanceId);
  }

  portsOf(instanceId: string): Port[] {
    return this.#db
      .sql('SELECT * FROM ports WHERE instance_id = ? ORDER BY position')
      .all(instanceId)
      .map(toPort);
  }

  /** Those of every instance, in order, by the instance's id. */
  portsByInstance(): Map<string, Port[]> {
    const rows = this.#db.sql('SELECT * FROM ports ORDER BY position').all();
    return Map.groupBy(rows.map(toPort), ({ instanceId }) => instanceId);
  }

  /** Names of the networks, by id. */
  names(): Map<string, string> {
    const rows = this.#db.sql('SELECT id, name FROM networks').all();
    return new Map(rows.map((row) => [row['id'] as string, row['name'] as string]));
  }

  portsIn(networkId: string): Port[] {
    return this.#db.sql('SELECT * FROM ports WHERE network_id = ?').all(networkId).map(toPort);
  }

  addressesIn(networkId: string): Set<string> {
    const rows = this.#db.sql('SELECT ip_address FROM ports WHERE network_id = ?').all(networkId);
    return new Set(rows.map((row) => row['ip_address'] as string));
  }

  /** Whether an instance has a port with this id, or with a tap of this name. */
  hasPort(idOrTapName: string): boolean {
    const row = this.#db
      .sql('SELECT 1 AS one FROM ports WHERE id = ? OR tap_name = ?')
      .get(idOrTapName, idOrTapName);
    return row !== undefined;
  }

  macAddressTaken(macAddress: string): boolean {
    return this.#db.sql('SELECT 1 AS one FROM ports WHERE mac_address = ?').get(macAddress) !== undefined;
  }
}

const SELECT_NETWORK =
  'SELECT networks.*, (SELECT count(*) FROM ports WHERE network_id = networks.id) AS ports FROM networks';

/** What the driver is told of a network. */
export function planOf(network: Network): NetworkPlan {
  const { id, name, bridge, cidr, gatewayAddress, nat, dhcp, dnsServers } = network;
  return { id, name, bridge, cidr, gatewayAddress, nat, dhcp, dnsServers };
}

function toNetwork(row: Row): Network {
  return {
    id: row['id'] as string,
    name: row['name'] as string,
    bridge: row['bridge'] as string,
    cidr: row['cidr'] as string,
    gatewayAddress: row['gateway_address'] as string,
    nat: row['nat'] === 1,
    dhcp: row['dhcp'] === 1,
    dnsServers: JSON.parse(row['dns_servers'] as string),
    ports: row['ports'] as number,
    state: row['state'] as Network['state'],
    createdAt: row['created_at'] as string,
  };
}

function toPort(row: Row): Port {
  return {
    id: row['id'] as string,
    instanceId: row['instance_id'] as string,
    networkId: row['network_id'] as string,
    macAddress: row['mac_address'] as string,
    ipAddress: row['ip_address'] as string,
    tapName: row['tap_name'] as string,
  };
}
