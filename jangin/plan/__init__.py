"""Training plans: the blocks they share with simulations (`blocks`), the signed document (`training_plan`), and the
forms of what server and sites say to each other in a round (`messages`). Imports nothing heavy.
"""
