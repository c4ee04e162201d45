"""Which processes live, and the beats that say so."""
