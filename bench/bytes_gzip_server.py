# SPDX-License-Identifier: Apache-2.0
"""The far side of bench/run bytes' comparison with gRPC's gzip: zlib at its default level over whole messages, as
gRPC's core does it, on a plain socket. bytes_gzip_server.py FOLDER NAME; prints its port."""
import pathlib
import socket
import struct
import sys
import zlib

import numpy
from bytes_client import read


def main():
    folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
    answer = numpy.load(folder / "map.npy").tobytes() if name == "map" else None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while True:
                try:
                    (size,) = struct.unpack("<Q", read(connection, 8))
                    tensor = numpy.frombuffer(zlib.decompress(read(connection, size), 31), numpy.float32)
                except ConnectionError:
                    return
                packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, 31)
                packed = packer.compress(answer or tensor.mean().tobytes()) + packer.flush()
                connection.sendall(struct.pack("<Q", len(packed)) + packed)


if __name__ == "__main__":
    main()
