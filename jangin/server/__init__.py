"""What runs at the ministry: one process that leads campaigns, and the operators' acts beside it.

    settings     server.yaml and the state folder
    tables       the tables of the database; migrations makes them of an older server's
    database     the database, opened: reading, writing, the audit log in the same transaction
    life         where a campaign may go, and by what
    audit        the audit log: one signed chain, exported and verified
    store        staff, rosters, invitations, campaigns, approvals, rounds
    members      staff and roster: invite, enrol, confirm
    api          /v1/jangin/*: signed requests of sites, answered
    campaigns    what people do with campaigns: draft, propose, approve, start
    roles        who may do what
    office       what people may ask, done and answered once for both ways in
    operators    gRPC with mutual TLS, the way in from afar
    passes       what a person needs to come that way
    desk         a person's end of both ways
    apart        whether a plan can run, judged in a process of its own
    refusals     a coded refusal between processes
    rounds       the round engine
    exchange     one order to a cohort over the SuperLink, and its replies
    checkpoints  where a campaign stands, in files
    conductor    a campaign from its last finished round to its end
    daemon       all of it in one process

The law: the database is the truth and the SuperLink only a switch; nobody does alone what two must do.
"""
