"""mobot itself under the ledger: the isolated layout, each process started, struck and started again from here."""
