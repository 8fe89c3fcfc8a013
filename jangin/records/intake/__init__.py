"""From what a firm has to master records: a drop folder read, and histories of other systems made into one.

drop         the folder itself: templates, the mapping of names, what headers mean
sheets       tables as spreadsheets and loggers write them
book         episodes.csv
recordings   one episode's folder
taken        its sound and pictures
staging      new episodes written beside the records, which then take their place
ingest       all of it, or nothing
importers    MCAP, OPC UA and MQTT, each behind an extra
"""
