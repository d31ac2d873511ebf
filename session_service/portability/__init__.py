"""Sessions as files: written as Markdown, as transcripts that others read, and as archives; read from archives and from
the stores of others. What is read is never changed, and what cannot be read is reported."""
