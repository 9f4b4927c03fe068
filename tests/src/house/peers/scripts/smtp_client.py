"""Sends a mail and prints the server's answers."""
import smtplib
import sys

client = smtplib.SMTP(timeout=15)
print(client.connect(sys.argv[1], int(sys.argv[2]))[0])
client.ehlo("client")
print(client.mail("a@example.org"), client.rcpt("b@example.org"))
print(client.data("Subject: hello\r\n\r\n" + "A line of a mail.\r\n" * 5000))
print(client.quit()[0])
