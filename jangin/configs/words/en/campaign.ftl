# What `jangin campaign check` and `jangin campaign rehearse` say.

# check
clean = The plan can be proposed.
refused = refused
warning = warning
works = would hold with
works-least = { $key } from { $value } on
works-most = { $key } up to { $value }
works-never = { $key }: no value does
cohort = Cohort: { $invited } sites invited; a round begins with { $begin } and needs { $quorum } where all are asked.
opened = A secure sum of all of them is opened with { $opened }.
no_privacy = NO DIFFERENTIAL PRIVACY: every site's ledger ends the budgets of the records that take part.
promise = Promise for one { $unit } of a site: ε { $epsilon } towards the server, { $coalition } against it and all other sites together, δ { $delta }; { $rounds } rounds are charged at most.
charged = What a site's ledger charges one unit, as its filter counts it
charged-columns = unit, towards, ε as planned, ε reserved, share of a new site's budget, that budget
reading-secure_sum = the server
reading-coalition = the server and all other sites
bytes = Bytes of one site over the whole campaign, with HTTP's heads; not counted: TLS, polls, attempts that fail
bytes-columns = asked, times, from the site, to the site
asked-scale = scaling
asked-train = training
asked-evaluate = evaluation
asked-commit = commitment
asked-all = together
server_bytes = The server, all sites together: { $received } in, { $sent } out.
waiting = Beside it a site asks every { $seconds } s at the soonest whether there is work: at most { $up } an hour from it, { $down } to it.
hours = Time: { $estimate }, { $one } a round ({ $basis }); { $deadlines } if every answer came at its deadline; over after { $most } at the latest while the server runs.
basis-rounds = measured in rounds of campaign { $of }
basis-rehearsal = measured in the rehearsal of this plan
basis-pace = a public pace of messages alone: without training, so that this is the least

# rehearse
outcome-columns = site, outcome
ready = ready
not_ready = not ready: { $code }
left_aside = its answer was left aside: { $code }
missing = no answer
unapproved = has not approved the plan, was not asked
local_means = `local`: the reason stays at the site, in its own log
waits = Rehearsal { $number } of { $campaign } was asked for; the running server begins it within a moment.
answered = { $ready } ready, { $not_ready } not, { $missing } not heard yet
charged_nothing = Nothing was charged, and no record is in what the sites sent: it is made of made-up rows.
warm = Asked once more, all who were ready took { $seconds } s.
broke_off = It broke off: { $reason }
