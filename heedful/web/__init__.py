"""The studio: pages where people give feedback, and the JSON API behind them. Imports no torch."""
