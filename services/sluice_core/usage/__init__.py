"""What calls used and cost, and the rows finance reads."""
