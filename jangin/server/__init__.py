"""What runs at the ministry: one process that leads campaigns, and the operators' acts beside it.

    settings     server.yaml and the state folder
    store        the database: staff, rosters, invitations, campaigns, approvals, rounds
    members      staff and roster: invite, enrol, confirm
    api          /v1/jangin/*: signed requests of sites, answered
    proposal     what a plan is refused for before anybody signs it
    forecast     what a plan will cost: privacy, bytes, hours
    pace         how long orders took, as the database knows it
    campaigns    a campaign's life: proposed, approved, running, finished or aborted
    rounds       the round engine
    exchange     one order to a cohort over the SuperLink, and its replies
    checkpoints  where a campaign stands, in files
    rehearsal    one round on made-up rows, of which nothing is charged
    conductor    a campaign from its last finished round to its end
    daemon       all of it in one process

The law: the database is the truth and the SuperLink only a switch; nobody does alone what two must do.
"""
