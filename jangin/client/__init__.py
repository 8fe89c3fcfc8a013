"""What runs in a factory: one light process that listens and judges, and a worker that trains.

    settings   site.yaml
    state      the state folder: keys, trust, approvals, a task's states, the egress log
    door       the one way out
    api        the site API: enrolment, campaigns, approvals, pace
    consent    what the site's masters allow: grants, revocations, their index
    gate       what must hold before any record is opened
    frames     the pipe between the two processes
    workbench  the worker as the light process sees it
    worker     the worker itself, a process of its own
    daemon     the light process
    desk       what a person at the site does: init, enrol, look, approve
    master     what a master is told of his recordings
    doctor     twenty checks of the machine, the network and the folder, each with a way out
    service    the daemon's unit for systemd, or a recipe for Windows
    rehearsal  one made-up step in the worker
    renewal    the key of the connection, made anew in time
    accounts   what the ledger says, for people; what a plan would leave

The law: nothing that the server sends is run; only what a person here approved is trained; what leaves, leaves by the
door. The light process imports neither torch, scipy, dp_accounting nor pyarrow.
"""
