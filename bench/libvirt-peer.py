"""The peer of bench/libvirt.ts: libvirt-python against the same daemon.

Usage: python3 libvirt-peer.py URI STATS_URI DOMAIN. Each line of the input is a command, and each gets one line of JSON:

  lookup N          microseconds of each of N lookups, one after the other
  many THREADS N    seconds that N lookups take, from so many threads at once
  stats N           milliseconds of each of N times the statistics of all domains
"""

import json
import sys
import threading
import time

import libvirt


def lookup(connection, domain, count):
    took = []
    for _ in range(count):
        started = time.perf_counter_ns()
        connection.lookupByName(domain)
        took.append((time.perf_counter_ns() - started) / 1_000)
    return took


def many(connection, domain, threads, count):
    def work():
        for _ in range(count // threads):
            connection.lookupByName(domain)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - started


def stats(connection, count):
    took = []
    for _ in range(count):
        started = time.perf_counter_ns()
        records = connection.getAllDomainStats(0, 0)
        took.append((time.perf_counter_ns() - started) / 1_000_000)
        assert records[0][1]["state.state"] > 0
    return took


def main():
    uri, stats_uri, domain = sys.argv[1:]
    connection = libvirt.open(uri)
    stats_connection = libvirt.open(stats_uri)
    for line in sys.stdin:
        command, *numbers = line.split()
        numbers = [int(number) for number in numbers]
        if command == "lookup":
            answer = lookup(connection, domain, *numbers)
        elif command == "many":
            answer = many(connection, domain, *numbers)
        else:
            answer = stats(stats_connection, *numbers)
        print(json.dumps(answer), flush=True)


main()
