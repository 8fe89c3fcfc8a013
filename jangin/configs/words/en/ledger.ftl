# What `jangin site ledger` and `jangin privacy explain --site` say; the names of units and of who is looking on stand
# with the privacy statement's words.

site = site: { $site }
chain = ledger: { $entries } entries, every signature holds, head { $head }
enrolled = enrolled masters: { $masters }
no_budget = No budget yet: those of site.yaml are granted when the daemon starts or a campaign is approved.
budgets = Budgets; what is reserved counts as spent
budgets-columns = unit, towards, cap, delta, order, spent ε, share of the one that paid most, charged, under 10 % left
nobody = none was ever charged
units-columns = name, content or key
share = share
unit-columns = towards, cap, spent ε, share, left
would_join = At this site { $episodes ->
        [one] one episode would take part, { $known } known from before.
       *[other] { $episodes } episodes would take part, { $known } of them known from before.
    }
in_ledger = The plan is in the ledger already: nothing more is charged.
stay_out = { $episodes ->
        [one] One episode stays out
       *[other] { $episodes } episodes stay out
    } ({ $why }): { $names }
too_little = too little budget left
doubled = another one has the same content
unconsented = their masters' consent does not cover it
least_left = The unit that would have least left of it
least_left-columns = unit, towards, cap, ε before, ε after, share after, left
campaigns = Campaigns
campaigns-columns = campaign, line, records, unit, state, rounds, spent, reserved, episodes, left out, known from before
no_campaign = none
stage-reserved = reserved
stage-running = running
stage-ended = ended
costs = What each costs one unit, whole while it lasts, at the budget's delta (ε by PLD is tighter and binds nobody)
costs-columns = campaign, unit, towards, share of budget, ε of the filter, ε by PLD
no_bound = no bound
