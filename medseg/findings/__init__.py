"""What speaks against a result: one list of findings, which every output reads."""
