"""Names that the sender and the worker of JetStream share."""

STREAM = "MAIL"
SUBJECTS = "mail.>"
CONSUMER = "workers"
ACK_WAIT_S = 1.5
