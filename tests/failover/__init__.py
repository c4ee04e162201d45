"""One of three accounts dies under full load, in each way that accounts do."""
