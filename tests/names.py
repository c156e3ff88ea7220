"""A name server for tests/image.sh, and whoever is looked for there:   names.py PORT NAME TYPE VALUE...

Answers on 127.0.0.77. TYPE is A, AAAA or SRV (VALUE is then PORT:TARGET); any other name does not exist. Port 53, since no
resolver can be told another one: that needs root. Takes connections to PORT, and prints the address of this machine that
each of them came to.
"""

import ipaddress
import socket
import struct
import sys
import threading

TYPES = {"A": 1, "TXT": 16, "AAAA": 28, "SRV": 33}


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def data(kind, value):
    if kind == "SRV":
        port, target = value.split(":")
        return struct.pack("!HHH", 0, 0, int(port)) + encode(target)
    return socket.inet_pton(socket.AF_INET6 if kind == "AAAA" else socket.AF_INET, value)


def answer(query, records):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    name, question = ".".join(labels), query[12 : at + 5]
    asked = struct.unpack("!H", query[at + 1 : at + 3])[0]
    found = [data(kind, value) for known, kind, value in records if known == name and TYPES[kind] == asked]
    exists = any(known == name for known, _, _ in records)
    # A response, authoritative, recursion as asked; NXDOMAIN where the name is not known at all.
    flags = 0x8400 | (query[2] & 1) << 8 | (0 if exists else 3)
    header = query[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0)
    # 0xC00C: the name as in the question.
    return header + question + b"".join(
        struct.pack("!HHHIH", 0xC00C, asked, 1, 1, len(value)) + value for value in found)


def meet(listener):
    while True:
        connection, _ = listener.accept()
        address = ipaddress.IPv6Address(connection.getsockname()[0])
        print(address.ipv4_mapped or address, flush=True)
        connection.close()


def main():
    port, arguments = int(sys.argv[1]), sys.argv[2:]
    records = list(zip(arguments[0::3], arguments[1::3], arguments[2::3]))
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.77", 53))
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=meet, args=[listener], daemon=True).start()
    print("serving", flush=True)
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(answer(query, records), client)


main()
