# What `jangin site` says; the doctor has a catalogue of its own.

yes = yes
no = no

# enroll, campaigns, approve, decline
compare = Call the operator and compare this fingerprint; it is confirmed when both read the same.
no_campaign = no campaign invites this site
covered = The consent of { $covered } of { $everybody } masters covers it; nothing of the others is used, or charged.
left_out = { $count ->
        [one] One episode has no budget left for it and stays out.
       *[other] { $count } episodes have no budget left for it and stay out.
    }
known_before = { $count ->
        [one] One episode was in earlier campaigns: what it spent there counts on.
       *[other] { $count } episodes were in earlier campaigns: what they spent there counts on.
    }
stays_spent = What was already sent stays spent and cannot be called back.

# status, egress
standing = site, fingerprint, server, roster, daemon
tasks = Tasks, round by round
tasks-columns = time, campaign, round, state, code
departures = What left this site; each line is written before its message goes
departures-columns = time, bytes, sha256, what
sums = Open secure sums
sums-columns = campaign, round, attempt, state
egress-columns = time, kind, bytes, sha256, what
more = { $title } (the last { $rows }; --lines N shows more)
nothing_yet = nothing yet
nothing_left = nothing left this site
task-idle = idle
task-gated = gated
task-training = training
task-trained = trained
task-sent = sent
task-abstained = abstained
task-lost = lost
sum-begun = begun
sum-advertised = advertised
sum-shared = shared
sum-masked = masked
sum-certified = certified

# pause, resume
paused = Paused since { $since }: no order is begun. `jangin site resume` ends it.
goes_on = Round { NUMBER($round, useGrouping: 0) } of campaign { $campaign } was begun before and goes on.
until_resume = It lasts until somebody runs `jangin site resume`.
not_paused = It was not paused.

# renew, support-bundle
withdrawn = The model { $model } may not be used any more: { $reason }
renewing = A new key of the connection waits for a roster that lists it; the old one serves until then.
handed_in = The old key serves until a roster lists the new one; the fingerprint stays as it is.
bundle-columns = file, bytes, what
bundle_stays = It stays here: nothing is sent.

# service
written = written: { $file }; next:
