"""The methods clients may call: one file per noun, each a table of rows and the handlers behind them."""
