"""Getting messages from mailboxes to workers."""
