"""The numbers of the contract."""

from typing import Final

MAX_PARTS: Final = 64
MAX_PARTS_BYTES: Final = 4 * 1024 * 1024
MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_KEY: Final = 200
MAX_REQUEST_ID: Final = 128
MAX_SOURCE: Final = 512
MAX_TYPE: Final = 128
MAX_SUBJECT: Final = 256
MAX_TRACEPARENT: Final = 128
MAX_METADATA: Final = 32
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 1_024
MAX_PRIORITY: Final = 9
MAX_ATTEMPTS: Final = 20
MAX_HOPS: Final = 16
MAX_DELAY_DAYS: Final = 366
MAX_OUTBOX: Final = 64
MAX_JOINED: Final = 63
MAX_STEP_NAME: Final = 128
MAX_STEP_BYTES: Final = 256 * 1024
MAX_STEPS: Final = 1_000
MAX_STEPS_BYTES: Final = 16 * 1024 * 1024
MAX_CHOICES: Final = 64
MAX_AT_ONCE: Final = 10_000
MAX_REASON: Final = 1_024
MAX_ERROR_REASON: Final = 64
MAX_ERROR_MESSAGE: Final = 4_096
MAX_REPLY_TEXT_BYTES: Final = 64 * 1024
MAX_NAMED_MESSAGES: Final = 1_000
MAX_BOTS: Final = 1_000
MAX_CREDIT: Final = 10_000
MAX_PULL: Final = 100
MAX_PULL_WAIT_S: Final = 60.0
MAX_WAIT_S: Final = 600.0
DEFAULT_WAIT_S: Final = 30.0
MAX_LEASE_S: Final = 86_400.0
DEFAULT_TYPE: Final = "mobot.message"
REPLY_TYPE: Final = "mobot.reply"
FAILED_REPLY_TYPE: Final = "mobot.reply.failed"
SKIP: Final = "skip"
MAIN_SESSION: Final = "main"

# Ranks order a mailbox before positions do, lower ones first. Priorities are ranks 0 to -9; what interrupts goes before
# them, and what is tried again goes before everything, since its turn had come already.
INTERRUPT_RANK: Final = -MAX_PRIORITY - 1
RETRY_RANK: Final = -MAX_PRIORITY - 2
