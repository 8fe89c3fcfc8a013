# What `jangin consent` and `jangin worker` say: plain sentences for masters, the labour side, and who keeps the site.

purpose-skill_preservation = keeping the skill for those who come after
purpose-training_of_novices = teaching beginners
purpose-safety = fewer accidents
purpose-quality = a better or steadier product
purpose-research = research
purpose-demonstration = a demonstration

prohibited-worker_evaluation = judging workers
prohibited-dismissal = dismissing anybody
prohibited-reassignment = moving anybody to other work

verdict-none = none
verdict-altered = not what was signed
verdict-revoked = taken back
verdict-expired = expired
verdict-not_countersigned = waits for the labour side
verdict-other_purposes = for other purposes
verdict-other_channels = other channels
verdict-covered = in force

# jangin consent
waits = It counts once the labour side has signed these files: jangin consent countersign.
columns = master, process, purposes, channels, until, state, grant
nobody = no master here
taken_back = From the next order on nothing of it is used here. What was already sent cannot be called back.
to_sign = This is what would be signed; its signature by the site, key { $key }, holds:
site = site
master = master
process = process
purposes = purposes
channels = channels
until = until
grant = grant
ask = Sign it for the labour side?

# jangin worker statement
title = What was done with the recordings of { $master } at { $site }
day = As of { $day }. Made from this site's own books; it is not sent to anybody.
here = { $episodes ->
        [one] One recording here is yours.
       *[other] { $episodes } recordings here are yours.
    }
consents = What you allowed
no_consent = Nothing: no consent of yours is recorded, and none of your recordings is used.
consent = { $process }, for { $purposes }; channels: { $channels }; until { $until }. State: { $state }.
unused = None of your recordings was used.
campaign = The model { $line } (campaign { $name }, { $hash })
trained = It learned from { $episodes } of your recordings in { $count ->
        [one] one round
       *[other] { $count } rounds
    } ({ $rounds }; 0 is the sums by which values are scaled), from { $first } to { $last }.
judged = It was tested with { $episodes } of your recordings after { $count ->
        [one] one round
       *[other] { $count } rounds
    } ({ $rounds }).
for = It is for: { $purposes }. It may never be used for: { $prohibited }.
private-episode = Noise was added so that what came out says almost the same with or without each single recording of yours: epsilon { $epsilon }, delta { $delta }, for this campaign as a whole. The smaller epsilon, the stronger. Several campaigns add up; the site's ledger keeps count.
private-master = Noise was added so that what came out says almost the same with or without all of your recordings at this site together: epsilon { $epsilon }, delta { $delta }, for this campaign as a whole. The smaller epsilon, the stronger. Several campaigns add up; the site's ledger keeps count.
single = That hides one recording at a time. What is common to all of your recordings is hidden less.
not_private = NO DIFFERENTIAL PRIVACY: no noise was added. Whoever has the model may learn something of your recordings from it.
together = Should the server and all other sites work together against this one, the protection is weaker; the site's ledger has that figure, too.
secret = What this site sent was masked and by itself is noise; what can be opened is the sum over several sites.
clear = The server saw what this site sent by itself.
left = In { $count } of these rounds ({ $rounds }) numbers left this site, or were ready to leave. No recording, no sound, no picture, no name and no pseudonym was among them.
nothing_left = Nothing that was learned from them has left this site.
undo = What cannot be undone
remains = What has left is part of a model that others have, and cannot be taken out of it. You can take back your consent at any time: from the next round on nothing of yours is used. Ask whoever keeps this site: jangin consent revoke.
free = Nothing: nothing that was learned from your recordings has left this site. A consent can be taken back at any time.
not_covered = This page does not know of copies of the recordings made outside this program, nor of what people who work at this site saw of them.
