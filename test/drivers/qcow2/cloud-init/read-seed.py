"""Prints, as JSON, what cloud-init makes of the files of a seed: read-seed.py nocloud|configdrive FOLDER MAC..."""

import json
import sys
import tempfile

from cloudinit import helpers, sources
from cloudinit.net import network_state
from cloudinit.sources.DataSourceConfigDrive import read_config_drive
from cloudinit.sources.DataSourceNoCloud import DataSourceNoCloud
from cloudinit.sources.helpers import openstack
from cloudinit.user_data import UserDataProcessor

kind, folder, macs = sys.argv[1], sys.argv[2], sys.argv[3:]
paths = helpers.Paths({"cloud_dir": tempfile.mkdtemp(), "run_dir": tempfile.mkdtemp()})


def nocloud():
    """Without a label to look for it reads no device of this machine."""
    source = DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
    source.seed_dirs = [folder]
    if not source._get_data():
        raise SystemExit("cloud-init finds no NoCloud seed here")
    return {
        "id": source.get_instance_id(),
        "hostname": source.metadata["local-hostname"],
        "keys": source.get_public_ssh_keys(),
        "user": source.get_userdata_raw(),
        "vendor": source.get_vendordata_raw(),
        "network": source.network_config,
    }


def configdrive():
    found = read_config_drive(folder)
    metadata = found["metadata"]
    known = {mac: f"eth{index}" for index, mac in enumerate(macs)}
    network = found.get("networkdata")
    return {
        "id": metadata["instance-id"],
        "hostname": metadata["local-hostname"],
        "keys": sources.normalize_pubkey_data(metadata.get("public_keys")),
        "user": found.get("userdata"),
        "vendor": sources.convert_vendordata(found.get("vendordata")),
        "network": network and openstack.convert_net_json(network, known_macs=known),
    }


def kinds_of(data):
    """Content types of the parts that cloud-init sees; none where there is nothing."""
    message = UserDataProcessor(paths).process(data) if data else None
    parts = message.walk() if message else []
    return [part.get_content_type() for part in parts if part.get_content_maintype() != "multipart"]


def interfaces_of(config):
    state = network_state.parse_net_config_data(config, skip_broken=False)
    return {
        "interfaces": [
            {"name": one["name"], "mac": one.get("mac_address"), "subnets": one["subnets"]}
            for one in state.iter_interfaces()
        ],
        "dns": state.dns_nameservers,
    }


seed = nocloud() if kind == "nocloud" else configdrive()
user, vendor, network = seed.pop("user"), seed.pop("vendor"), seed.pop("network")
seed["userKinds"], seed["vendorKinds"] = kinds_of(user), kinds_of(vendor)
seed["network"] = network and interfaces_of(network)
print(json.dumps(seed, default=str))
