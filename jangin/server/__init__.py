"""What runs at the ministry: one process that leads campaigns, and the operators' acts beside it.

    settings     server.yaml and the state folder
    tables       the tables of the database; migrations makes them of an older server's
    database     the database, opened: reading, writing, the audit log in the same transaction
    life         where a campaign may go, and by what
    audit        the audit log: one signed chain, exported and verified
    store        staff, rosters, invitations, campaigns, approvals, rounds
    members      staff and roster: invite, enrol, confirm
    api          /v1/jangin/*: signed requests of sites, answered
    proposal     what a plan is refused for before anybody signs it
    forecast     what a plan will cost: privacy, bytes, hours
    pace         how long orders took, as the database knows it
    campaigns    what people do with campaigns: propose, approve, start
    rounds       the round engine
    exchange     one order to a cohort over the SuperLink, and its replies
    checkpoints  where a campaign stands, in files
    rehearsal    one round on made-up rows, of which nothing is charged
    conductor    a campaign from its last finished round to its end
    monitor      /health and /metrics
    daemon       all of it in one process
    backup       a server in one file, and back
    upgrade      an older server, brought along

The law: the database is the truth and the SuperLink only a switch; nobody does alone what two must do.
"""
