"""Keys, staff, roster and signed documents. Not built yet: a simulation runs in one process and signs nothing."""
