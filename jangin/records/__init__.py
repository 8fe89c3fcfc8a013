"""Master records: the data set folder of a site, its checks, its hold-out, and what else is made of it.

    card         what a folder holds, in words that all sites share
    process      the streams, context and actions of one kind of work; catalogue finds it, purposes says for what
    dataset      the folder: written whole, read as a training and a hold-out view
    parts        a stream's rows, a few at a time
    media        an episode's sound and pictures
    manifest     what was validated; split draws the hold-out, contents names what an episode holds
    checks       five levels of findings
    agreement    how far masters agree
    examples     what training sees; aside keeps it on disk where memory has no room
    intake       from a firm's folder, or another system's history, to records
    lag          how far two recorders were apart; outcomes joins what came of it later
    as_is        a folder, validated or not: preview shows it with what drawing draws, croissant describes it
    generate     made records of the reference processes
    npz          research sets

The law: nothing here trains, sends or asks anybody.
"""
