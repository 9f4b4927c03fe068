"""Asks each replica by its own name, for ever: reader.py HOST:PORT..."""

import sys
import time
import urllib.request

while True:
    for address in sys.argv[1:]:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
                print(address, "is", answer.read().decode(), flush=True)
        except OSError as error:
            print(address, "failed:", error, flush=True)
    time.sleep(1)
