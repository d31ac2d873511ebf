"""The services' own calls for programs: one table, served as REST under /v1 and as `mobot.*` methods of the socket."""
