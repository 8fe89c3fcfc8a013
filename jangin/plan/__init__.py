"""Training plans and messages; imports nothing heavy.

The blocks plans share with simulations (`blocks`), the document (`training_plan`), and the forms of what server and
sites say to each other in a round (`messages`).
"""
