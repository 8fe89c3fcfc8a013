"""What runs at the ministry: one process that leads campaigns, and the operators' acts beside it.

    settings     server.yaml and the state folder
    tables       the tables of the database; migrations makes them of an older server's
    database     the database, opened: reading, writing, the audit log in the same transaction
    life         where a campaign may go, and by what
    audit        the audit log: one signed chain, exported and verified
    store        staff, rosters, invitations, campaigns, approvals, rounds
    members      staff and roster: invite, enrol, confirm
    api          /v1/jangin/*: signed requests of sites, answered
    campaigns    what people do with campaigns: propose, approve, start
    rounds       the round engine
    exchange     one order to a cohort over the SuperLink, and its replies
    checkpoints  where a campaign stands, in files
    registry     versions of models, their aliases and files
    kpi          factory figures measured after a campaign
    report       what is said of a campaign; report_page shows it
    conductor    a campaign from its last finished round to its end
    daemon       all of it in one process

The law: the database is the truth and the SuperLink only a switch; nobody does alone what two must do.
"""
