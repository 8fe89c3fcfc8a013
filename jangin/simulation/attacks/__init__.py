"""Attacks on what a federation shows, for simulation: was a record used, and what was in it?

What is attacked is what ships: sites, private step and round engine are those of the field. The law: attackers here
are helped (they know the candidates, the plan and the other models of their kind), because a promise is about the
best informed; and an attack that fails proves nothing.
"""
