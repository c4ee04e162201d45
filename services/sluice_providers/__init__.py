"""Provider calls: one module a wire format, one HTTP seam under all of them."""
