"""`jangin site doctor`: twenty questions to a site's machine, its network and its own folder, each with a way out.

    findings   what a check says: a state, a value, words in two languages
    processes  who holds a file, what a tree of processes listens on (Linux)
    checks     the table D01..D20: causes before consequences, each check a small function
    visit      all of them in their order, each within its time

The law: a doctor changes nothing and reserves nothing, opens no record, and always comes to an end; what it cannot
find out it says. It sends the server one unsigned look at /health, and one signed request without content.
"""
