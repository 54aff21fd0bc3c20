# SPDX-License-Identifier: Apache-2.0
"""The device's side of bench/run bytes: Runs with inputs that are never the same twice (or always), timed.

    bytes_client.py outboard FOLDER NAME SERVER_PID SECONDS SAME      under `outboard run`
    bytes_client.py gzip FOLDER NAME SERVER_PID SECONDS HOST:PORT     the same bytes as gRPC's gzip has them

Prints JSON: seconds of the first Run and of the others, processor seconds of both sides a Run.
"""
import json
import os
import pathlib
import resource
import socket
import struct
import sys
import time
import zlib

import numpy


def cpu_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def frames(value, same):
    """Another picture each time: the same pixels elsewhere, so that nothing but the content changes."""
    i = 0
    while True:
        yield value if same else numpy.ascontiguousarray(numpy.roll(value, i, axis=-1))
        i += 7


def measure(call, value, seconds, server, same):
    source = frames(value, same)
    times, client_s = [], 0.0
    server_s = None
    begin = time.monotonic()
    # Two Runs learn what the link and the tensor are like; at least two are counted.
    while len(times) < 4 or (time.monotonic() - begin < seconds and len(times) < 40):
        frame = next(source)
        if len(times) == 2:
            server_s = cpu_of(server)
        cpu, start = own_cpu(), time.perf_counter()
        call(frame)
        times.append(time.perf_counter() - start)
        if len(times) > 2:
            client_s += own_cpu() - cpu
    runs = len(times) - 2
    return {"first_s": times[0], "times_s": times[2:], "client_cpu_s": client_s / runs,
            "server_cpu_s": (cpu_of(server) - server_s) / runs}


def exchange(connection, payload):
    """A message whole, compressed at gRPC's level, before a byte of it leaves; the reply likewise."""
    packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, 31)
    packed = packer.compress(payload) + packer.flush()
    connection.sendall(struct.pack("<Q", len(packed)) + packed)
    (size,) = struct.unpack("<Q", read(connection, 8))
    reply = read(connection, size)
    return zlib.decompress(reply, 31), len(packed), size


def read(connection, size):
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if got == 0:
            raise ConnectionError("the peer has gone")
        view = view[got:]
    return data


def main():
    how, folder, name, server, seconds, last = sys.argv[1:7]
    folder = pathlib.Path(folder)
    value = numpy.load(folder / f"{name}.npy")
    feed = numpy.zeros(1, numpy.float32) if name == "map" else value
    if how == "outboard":
        import onnxruntime
        session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])

        def call(frame):
            got = session.run(None, {"x": frame})[0]
            expected = value if name == "map" else frame.mean(dtype=numpy.float64)
            if name == "map" and got.tobytes() != expected.tobytes():
                raise ValueError("the output is not what the model has")
            if name != "map" and abs(got - expected) > 1e-3:
                raise ValueError(f"the mean ({got}) is not the input's ({expected})")

        result = measure(call, feed, float(seconds), server, last == "same" or name == "map")
    else:
        host, _, port = last.rpartition(":")
        moved = {}
        with socket.create_connection((host, int(port))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def call(frame):
                _, moved["sent"], moved["received"] = exchange(connection, frame.tobytes())

            result = measure(call, feed, float(seconds), server, name == "map")
        result.update(moved)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
