import type { SdkVm } from "./sdk.ts";

/** Listens on port 3000 with nothing but sockets: the guest image has no more of Python. Threads, so that streams do not block. */
export const GUEST_WEB = `
import base64, hashlib, os, socket, struct, threading

GZIP = base64.b64decode("H4sIAAAAAAACA6vKLChITQEAV2jC4gYAAAA=")

def exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more: raise OSError
        data += more
    return data

def echo(s, key):
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    s.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
    while True:
        first, second = exactly(s, 2)
        n = second & 127
        if n == 126: n = struct.unpack(">H", exactly(s, 2))[0]
        mask = exactly(s, 4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(exactly(s, n)))
        if first & 15 == 8: return
        s.sendall(bytes([first, len(data)]) + data)

def body(s, rest, headers):
    n = int(headers.get(b"content-length", 0))
    size = len(rest)
    while size < n:
        size += len(s.recv(65536))
    return size

def serve(s):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        more = s.recv(65536)
        if not more: return
        data += more
    head, rest = data.split(b"\\r\\n\\r\\n", 1)
    lines = head.split(b"\\r\\n")
    headers = {k.lower(): v for k, v in (l.split(b": ", 1) for l in lines[1:])}
    path = lines[0].split(b" ")[1]
    if headers.get(b"upgrade"):
        return echo(s, headers[b"sec-websocket-key"])
    extra = b""
    if path == b"/gzip":
        out, extra = GZIP, b"Content-Encoding: gzip\\r\\n"
    elif path == b"/count":
        out = str(body(s, rest, headers)).encode()
    elif path.startswith(b"/zeros/"):
        n = int(path[7:])
        s.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: " + path[7:] + b"\\r\\nConnection: close\\r\\n\\r\\n")
        zeros = bytes(1 << 20)
        while n > 0:
            s.sendall(zeros[:n])
            n -= len(zeros)
        return
    elif path == b"/head":
        out = head
    else:
        out = b"pid " + str(os.getpid()).encode()
    s.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: " + str(len(out)).encode() + b"\\r\\nConnection: close\\r\\n" + extra + b"\\r\\n" + out)

def handle(s):
    try: serve(s)
    except OSError: pass
    finally: s.close()

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", 3000))
listener.listen(512)
while True:
    threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()
`;

/** Starts a web server in a guest, on port 3000. It answers its process id, and what its other paths say. */
export async function startGuestWeb(vm: SdkVm): Promise<void> {
  await vm.fs.writeTextFile("/srv/web.py", GUEST_WEB);
  await vm.exec("setsid -f python3 /srv/web.py >/srv/web.log 2>&1 </dev/null");
}
