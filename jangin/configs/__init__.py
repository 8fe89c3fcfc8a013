"""What comes with Jangin: processes, model lines, simulations, error texts (YAML) and words (Fluent). Data alone."""
