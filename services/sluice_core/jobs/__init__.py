"""Jobs in the ledger: states, decisions, statements."""
