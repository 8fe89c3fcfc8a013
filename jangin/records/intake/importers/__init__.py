"""Importers: a history that some other system kept becomes the tables of one episode's folder in a drop.

    mcap.py     recordings of robots and test stands
    opcua.py    the history that an OPC UA server keeps
    mqtt.py     what a broker sends, live or as `mosquitto_sub -F %j` recorded it

The law: an importer writes tables that `ingest` reads, and nothing else; which tag is which channel is said by `tags`
of mapping.local.yaml, or by a name that the process itself has. Times are kept to the microsecond, in UTC. The folder
appears whole or not at all, and never over another. Each library is an extra, loaded when its importer is called.
"""
