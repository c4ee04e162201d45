"""What a call costs: prices resolved once, charges in whole nano-dollars."""
