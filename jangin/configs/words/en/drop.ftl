# What the templates of `jangin data init` and the command `jangin data ingest` say.

readme =
    Recordings of { $title } ({ $process }) go into this folder.
    1. Make one folder for each piece of work (episode) and put its files there. No person's name in a folder's name, please; e.g. 2026-11-21-001
    2. Open episodes.csv with Excel and write one line for each episode. The first cell is the folder's name. What is not known stays blank, never 0.
       A start is Korean time, as 2026-11-21 15:05:07 or 2026-11-21 3:05 PM. Names of masters become pseudonyms in the records.
    3. If the plant has other names for tags, write them into mapping.local.yaml. That file never leaves the site.

    Files of an episode's folder (a file's name holds the stream's name):
file-table = - { $file }: { $rate } rows a second. Columns: time(s), { $columns }
file-sound = - { $file }: sound, { $rate } Hz. Microphones: { $columns }
file-pictures = - { $file }: pictures, { $rate } a second, { $size }
choice = - words of { $column }: { $words }
then =
    Then: jangin data ingest THIS_FOLDER RECORDS_FOLDER
    The next time it adds new episodes alone.
imported = { $samples } values; { $unread } tags stayed unread. Write a line for the episode { $folder } into episodes.csv; a blank start is taken from the recording.
ingested = { $added } episodes added, { $known } known before, { $filled } cells filled in. Next: jangin data validate
mapping =
    From the plant's names to those of the process. This file never leaves the site.
    tags: the plant's name of a column or file -> stream.channel, stream, context.field, t (time), "-" if nobody needs it
    words: the plant's words -> those of the process, e.g. fine: good
    note, deidentified: go onto the card; how masters were asked, and for each stream of pictures or sound what was done so that nobody is known by it
