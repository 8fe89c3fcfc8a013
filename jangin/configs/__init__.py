"""YAML that comes with Jangin: processes, model lines, simulations, error texts. Data, not code."""
