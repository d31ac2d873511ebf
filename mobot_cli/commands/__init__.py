"""One module for each subcommand of `mobot`; `mobot_cli/__main__.py` lists them."""
