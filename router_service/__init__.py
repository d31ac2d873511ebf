"""The router: a durable mailbox for every session, and the way from it to the workers."""
