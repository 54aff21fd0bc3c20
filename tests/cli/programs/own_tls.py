# SPDX-License-Identifier: Apache-2.0
"""An ordinary program with an OpenSSL of its own: it hashes, and makes TLS connections, before and after inference.

    own_tls.py CERTIFICATE KEY MODEL
"""
import hashlib
import os
import socket
import ssl
import sys
import threading

import numpy as np
import onnxruntime as ort


def connection():
    """One TLS connection of this process with itself: what the client got, and the version."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(sys.argv[1], sys.argv[2])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(sys.argv[1])
    here, there = socket.socketpair()

    def answer():
        with server.wrap_socket(there, server_side=True) as stream:
            stream.sendall(stream.recv(1 << 16)[::-1])

    thread = threading.Thread(target=answer)
    thread.start()
    with client.wrap_socket(here) as stream:
        stream.sendall(b"through one's own TLS")
        got, version = stream.recv(1 << 16), stream.version()
    thread.join()
    return got, version


print(ssl.OPENSSL_VERSION, hashlib.sha256(b"before").hexdigest(), connection())
session = ort.InferenceSession(sys.argv[3], providers=["CPUExecutionProvider"])
feeds = {i.name: np.arange(6, dtype=np.float32).reshape(2, 3) for i in session.get_inputs()}
for _ in range(20):
    outputs = session.run(None, feeds)
    print([o.tolist() for o in outputs], connection())
print(hashlib.sha512(b"after").hexdigest(), hashlib.sha256(b"after").hexdigest())
print("#", sys.argv, {k: v for k, v in os.environ.items()})
print("# OUTBOARD_SERVERS=" + os.environ.get("OUTBOARD_SERVERS", ""), open("/proc/self/cmdline").read().replace("\0", " "))
