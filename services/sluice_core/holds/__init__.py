"""What an operator holds back: tenants, classes, models, accounts, runs."""
