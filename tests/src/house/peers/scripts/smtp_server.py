"""An SMTP server that says in its answer what it was given."""
import sys
import threading

from aiosmtpd.controller import Controller


class Handler:
    async def handle_DATA(self, server, session, envelope):
        subject = [line for line in envelope.content.splitlines() if line.startswith(b"Subject:")]
        return "250 from %s, %s" % (envelope.mail_from, subject[0].decode())


# An empty name is every address of both families.
Controller(Handler(), hostname="", port=int(sys.argv[1])).start()
threading.Event().wait()
