"""One of the shop's applications: answers JSON, and calls the URL it is given first.

    app.py NAME [URL]
"""

import json
import os
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, CALLS = sys.argv[1], sys.argv[2:3]
# What ties the spans of a trace together: applications pass it on.
TRACE = ("traceparent", "tracestate")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, answer = 200, {"service": NAME, "replica": os.uname().nodename}
        if CALLS and self.path != "/healthz":
            status, answer["calls"] = self.call(CALLS[0])
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def call(self, url):
        headers = {name: self.headers[name] for name in TRACE if name in self.headers}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=9) as answer:
                return 200, json.load(answer)
        except (urllib.error.URLError, OSError, ValueError) as error:
            return 502, f"{url}: {error}"

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", 8080), Handler).serve_forever()
