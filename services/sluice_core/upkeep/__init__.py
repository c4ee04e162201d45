"""What keeps the ledger small, and closes what nobody else closes."""
