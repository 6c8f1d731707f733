"""How the checks of the Python clients tell what they saw.

Each check is one line of JSON: {"check": name, "ok": true or false, "detail": text}. A group of checks ends at its first
failure, and the next group begins; the exit code is 1 where any check failed. The last line is {"done": true}. What asks for
something, and what is expected, is the clients' own.
"""

import json
import os
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

DETAIL_MAX = 2000
failures = []


class Failed(Exception):
    """A check that does not hold, and was told already."""


def tell(check, holds, detail=""):
    """Writes down what came of a check."""
    if not holds:
        failures.append(check)
    print(json.dumps({"check": check, "ok": bool(holds), "detail": detail[:DETAIL_MAX]}), flush=True)


def ok(name, condition, seen=None):
    """Tells whether a check holds; where it does not, its group ends."""
    tell(name, condition, "" if condition else repr(seen))
    if not condition:
        raise Failed(name)


def raises(name, kind, call):
    """The error of the given kind that a call raises."""
    try:
        seen = call()
    except kind as error:
        return error
    except Exception as error:
        seen = error
    ok(name, False, f"expected {kind.__name__}, got {seen!r}")


def run(modes, *arguments):
    """Runs the groups of the modes that the command line names; each gets the arguments."""
    if len(sys.argv) < 2 or any(mode not in modes for mode in sys.argv[1:]):
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} {'|'.join(modes)}...")
    for group in [group for mode in sys.argv[1:] for group in modes[mode]]:
        try:
            group(*arguments)
        except Failed:
            pass
        except Exception as error:
            tell(group.check, False, f"{type(error).__name__}: {error}")
    print(json.dumps({"done": True}), flush=True)
    sys.exit(1 if failures else 0)


def group(check):
    """Marks a group of checks; an error that nobody expected fails the check that it is named for."""

    def mark(function):
        function.check = check
        return function

    return mark


class Counter:
    """Passes requests on to the endpoint and counts them, because a retry is invisible to the caller."""

    def __init__(self, target):
        self.count = 0
        counter, address = self, urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                counter.count += 1
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                upstream = HTTPConnection(address.hostname, address.port, timeout=60)
                sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                upstream.request("POST", self.path, body, sent)
                answer = upstream.getresponse()
                payload = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}{address.path}"
