"""The fault ledger: records every accepted message and every visible effect while processes die, and compares them."""
