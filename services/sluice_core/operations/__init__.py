"""What operators look up in the ledger, and the few things they change there."""
