"""A load, the faults that befall it, and the verdict on what is left when they are over."""
