"""What runs at the ministry: a process that sites reach, one that leads campaigns, and the operators' acts beside them.

    settings     server.yaml and the state folder
    store        the database: staff, rosters, invitations, campaigns, approvals, rounds
    members      staff and roster: invite, enrol, confirm
    api          /v1/jangin/*: signed requests of sites, answered
    campaigns    a campaign's life: proposed, approved, running or paused, finished or aborted
    rounds       the round engine
    exchange     one order to a cohort over the SuperLink, and its replies
    checkpoints  where a campaign stands, in files
    conductor    a campaign from its last finished round to its end
    leading      the aggregation worker: the process in which campaigns are led
    channel      the line between it and the server
    daemon       the server: SuperLink, site API, roster, and the worker started anew whenever it ends
    memory       what is freed goes back to the system

The law: the database is the truth and the SuperLink only a switch; nobody does alone what two must do.
"""
