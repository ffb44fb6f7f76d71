"""Raw bytes through a port-forward, and archives of random bytes, for benches/load.

sink PORT                          takes connections on loopback: a length of 8 bytes, that many bytes, an answer of one byte
plain PORT BYTES                   sends bytes to a port of loopback, and prints the seconds until the answer
websocket SERVER TOKEN POD BYTES   does so through the API server's WebSocket, POD being NAMESPACE/NAME:PORT
archive FILE NAME BYTES LAYERS     writes an OCI archive with an image of random layers
"""

import base64
import hashlib
import io
import json
import os
import platform
import socket
import ssl
import struct
import sys
import tarfile
import time

# Bytes of a write, and of a frame: as many as a kubelet sends at once.
PIECE = 32 * 1024


def sink(port):
    listener = socket.create_server(("127.0.0.1", port))
    buffer = bytearray(1 << 20)
    while True:
        connection, _ = listener.accept()
        head = b""
        while len(head) < 8 and (more := connection.recv(8 - len(head))):
            head += more
        # A client that only tries the port sends nothing.
        left = struct.unpack(">Q", head)[0] if len(head) == 8 else 0
        while left and (count := connection.recv_into(buffer, min(left, len(buffer)))):
            left -= count
        if len(head) == 8 and not left:
            connection.sendall(b"\x01")
        connection.close()


def pieces(count):
    data = os.urandom(PIECE)
    yield struct.pack(">Q", count)
    for at in range(0, count, PIECE):
        yield data[: min(PIECE, count - at)]


def plain(port, count):
    connection = socket.create_connection(("127.0.0.1", port))
    began = time.monotonic()
    for piece in pieces(count):
        connection.sendall(piece)
    assert connection.recv(1) == b"\x01", "the sink has not got everything"
    return time.monotonic() - began


def frame(payload):
    """Returns a frame whose mask is zero, which costs this side nothing and the server as much as any other."""
    length = len(payload) + 1
    size = struct.pack(">BH", 0xFE, length) if length < 1 << 16 else struct.pack(">BQ", 0xFF, length)
    return b"".join([b"\x82", size, b"\0\0\0\0", b"\0", payload])


def websocket(server, token, pod, count):
    host, port = server.removeprefix("https://").split(":")
    namespace, rest = pod.split("/")
    name, target = rest.split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(socket.create_connection((host, int(port))))
    connection.sendall(
        f"GET /api/v1/namespaces/{namespace}/pods/{name}/portforward?ports={target} HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
        "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
    )
    stream = connection.makefile("rb")
    status = stream.readline()
    assert b" 101 " in status, status
    while stream.readline() not in (b"\r\n", b""):
        pass
    began = time.monotonic()
    for piece in pieces(count):
        connection.sendall(frame(piece))
    # Frames of this length only; the first one of each channel has the port.
    while True:
        opcode, length = stream.read(2)
        payload = stream.read(length)
        if opcode == 0x82 and payload == b"\0\x01":
            return time.monotonic() - began
        assert opcode != 0x88 and payload[:1] != b"\x01" or len(payload) == 3, payload


def archive(file, name, count, layers):
    media = "application/vnd.oci.image."

    def described(kind, digest, size, **more):
        return {"mediaType": media + kind, "digest": f"sha256:{digest}", "size": size, **more}

    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as out:

        def add(path, content):
            info = tarfile.TarInfo(path)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))

        def blob(kind, content, **more):
            digest = hashlib.sha256(content).hexdigest()
            add(f"blobs/sha256/{digest}", content)
            return described(kind, digest, len(content), **more)

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        # The client of a load looks at no layer, and a store at none.
        parts = [blob("layer.v1.tar", os.urandom(count // layers)) for _ in range(layers)]
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
        diff_ids = [part["digest"] for part in parts]
        config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        config = blob("config.v1+json", json.dumps(config).encode())
        manifest = {"schemaVersion": 2, "mediaType": media + "manifest.v1+json", "config": config, "layers": parts}
        annotations = {"io.containerd.image.name": name}
        manifest = blob("manifest.v1+json", json.dumps(manifest).encode(), annotations=annotations)
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sink", port]:
            sink(int(port))
        case ["plain", port, count]:
            print(plain(int(port), int(count)))
        case ["websocket", server, token, pod, count]:
            print(websocket(server, token, pod, int(count)))
        case ["archive", file, name, count, layers]:
            archive(file, name, int(count), int(layers))
        case _:
            sys.exit(__doc__)
