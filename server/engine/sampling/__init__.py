"""Chooses next tokens: masks, penalties, filters, draws, log-probabilities."""
