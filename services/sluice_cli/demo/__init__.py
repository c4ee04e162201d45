"""The demonstration: a configuration, a thousand jobs of three classes, and what became of them."""
