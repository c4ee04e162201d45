"""Who changed what: what stands in the audit."""
