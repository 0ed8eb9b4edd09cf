#!/usr/bin/python3
"""A real S3 server for tests: OpenStack Swift with its S3 API, account, container, object and proxy in one process.

    swift-server.py FOLDER [BUCKET...]

Serves on ports of the loopback that the kernel chooses, keeps all files under FOLDER, and prints one JSON line
{"port": N} once it answers. It leaves when its standard input ends, so that it never outlives the test. One replica,
no replication daemons, no memcached: what a single node has to do to keep what it is given. Access key
test:tester, secret testing; Debian's package python3-swift is all that it needs.
"""
import json
import logging
import os
import sys

from eventlet import listen, spawn, tpool, wsgi
from swift.common import utils

utils.eventlet_monkey_patch()

FOLDER = os.path.abspath(sys.argv[1])
BUCKETS = sys.argv[2:]
DEVICE = 'disk'
SERVICES = ('account', 'container', 'object')

SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = of-a-test
[storage-policy:0]
name = default
default = yes
"""

STORAGE_CONF = """[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

PROXY_CONF = """[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
"""


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    return path


def make_ring(name, port):
    from swift.common.ring import RingBuilder
    builder = RingBuilder(2, 1, 0)
    builder.add_dev({'id': 0, 'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': port, 'device': DEVICE,
                     'weight': 1.0, 'replication_ip': '127.0.0.1', 'replication_port': port, 'meta': ''})
    builder.rebalance()
    builder.get_ring().save(os.path.join(FOLDER, f'{name}.ring.gz'))


def serve(socket, conf):
    from swift.common.wsgi import loadapp
    app = loadapp(conf, global_conf={'log_level': 'ERROR'})
    spawn(wsgi.server, socket, app, log_output=False, keepalive=True,
          log=logging.getLogger('wsgi'), debug=False)


def make_buckets(conf):
    from swift.common.internal_client import InternalClient
    client = InternalClient(conf, 'test', 3, global_conf={'log_level': 'ERROR'})
    for bucket in BUCKETS:
        client.create_container('AUTH_test', bucket)


INTERNAL_CONF = """[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors cache proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
"""


def main():
    logging.disable(logging.CRITICAL)
    os.makedirs(os.path.join(FOLDER, 'devices', DEVICE), exist_ok=True)
    utils.SWIFT_CONF_FILE = write('swift.conf', SWIFT_CONF)
    utils.set_swift_dir(FOLDER)
    utils.validate_hash_conf()
    sockets = {name: listen(('127.0.0.1', 0)) for name in SERVICES}
    for name, socket in sockets.items():
        make_ring(name, socket.getsockname()[1])
    for name, socket in sockets.items():
        serve(socket, write(f'{name}-server.conf', STORAGE_CONF.format(folder=FOLDER, name=name)))
    proxy = listen(('127.0.0.1', 0))
    serve(proxy, write('proxy-server.conf', PROXY_CONF.format(folder=FOLDER)))
    make_buckets(write('internal-client.conf', INTERNAL_CONF.format(folder=FOLDER)))
    print(json.dumps({'port': proxy.getsockname()[1]}), flush=True)
    tpool.execute(sys.stdin.read)


main()
