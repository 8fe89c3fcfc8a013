"""What runs at the ministry: a process that sites reach, one that leads campaigns, and the operators' acts beside them.

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
    shelf        models and figures as a person sees and signs them there
    apart        whether a plan can run, judged in a process of its own
    refusals     a coded refusal between processes
    proposal     what a plan is refused for before anybody signs it
    forecast     what a plan will cost: privacy, bytes, hours
    pace         how long orders took, as the database knows it
    shards       which campaigns a server leads, where several share a database
    rounds       the round engine
    exchange     one order to a cohort over the SuperLink, and its replies
    checkpoints  where a campaign stands, in files
    registry     versions of models, their aliases and files
    kpi          factory figures measured after a campaign
    report       what is said of a campaign; report_page shows it
    rehearsal    one round on made-up rows, of which nothing is charged
    conductor    a campaign from its last finished round to its end
    leading      the aggregation worker: the process in which campaigns are led
    channel      the line between it and the server
    daemon       the server: SuperLink, site API, roster, and the worker started anew whenever it ends
    memory       what is freed goes back to the system
    outage       a database that does not answer, told once
    monitor      /health and /metrics
    backup       a server in one file, and back
    upgrade      an older server, brought along

The law: the database is the truth and the SuperLink only a switch; nobody does alone what two must do.
"""
