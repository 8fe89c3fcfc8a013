# What `jangin data baseline` says.

head-episode = { $line }: { $train } episodes to learn from, { $holdout } set aside
head-master = { $line }: { $train } masters to learn from, { $holdout } set aside
model-constant = the mean
model-trees = boosted trees
wrong = share of wrong classes
judged-holdout = set aside: { $units }
judged-turns = in turns: { $units }
verdict-better = better
verdict-worse = worse
few = So few records say little: the figures on what was set aside are of { $units } alone. Without an interval, or without "better" behind it, a figure tells nothing apart from the mean.
local = Made here, without differential privacy; nothing was written and nothing left this machine.
