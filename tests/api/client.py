"""What the Python scripts of this folder share: a daemon on the unix socket SOCKET (their first argument),
and points in TAP, which the script beside them counts."""
import http.client
import json
import socket
import sys
import time


class Connection(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("localhost", timeout=300)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])


def send(path, body=None, kind="application/json"):
    """The connection of a request that is on its way: GET without a body (an object, or its text)."""
    c = Connection()
    if body is None:
        c.request("GET", path)
    else:
        text = body if isinstance(body, str) else json.dumps(body)
        c.request("POST", path, text.encode(), {"Content-Type": kind})
    return c


def eventually(what):
    """The first true value, for at most a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        v = what()
        if v:
            return v
        time.sleep(0.01)
    raise AssertionError("it did not come")


def run(points):
    failed = 0
    for i, point in enumerate(points):
        try:
            point()
            print("ok %d - %s" % (i + 1, point.__name__), flush=True)
        except Exception as e:  # one point that fails does not hide the others
            failed += 1
            where = e.__traceback__
            while where.tb_next:
                where = where.tb_next
            print("not ok %d - %s" % (i + 1, point.__name__))
            print("# line %d: %s %s" % (where.tb_lineno, type(e).__name__, str(e)[:600].replace("\n", " ")), flush=True)
    sys.exit(failed > 0)
