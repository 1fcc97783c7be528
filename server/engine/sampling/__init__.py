"""The next token: constraint masks, penalties, sampling filters, log-probabilities."""
