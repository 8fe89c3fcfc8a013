"""MCAP recordings (https://mcap.dev/spec): messages as JSON or ROS 2 CDR; a tag is `topic.field`, e.g. `/arc.current`.

A message stands at its log time. Compressed pictures and sound of a recording are not taken.
"""

import json
from pathlib import Path

from jangin.errors import DataError, one_line
from jangin.records.intake.importers.history import History, Imported, extra, flat

__all__ = ["import_mcap"]


def import_mcap(file: Path, drop: Path, episode: str | None = None) -> Imported:
    """Write the tables of one episode from a recording.

    Args:
        file: `.mcap`.
        drop: the drop folder.
        episode: its folder's name; default: the file's without its suffix.

    Raises:
        DataError: JG-data-129 the extra `mcap` is not installed; 128 the file cannot be read, holds messages in another
            encoding, or no channel; 100, 002, 019 as `History` says.
    """
    history, where = History(drop), str(file)
    with extra("mcap", where):
        from mcap.exceptions import DecoderNotFoundError, McapError
        from mcap.reader import make_reader
        from mcap_ros2.decoder import DecoderFactory
    ros = DecoderFactory()
    try:
        with file.open("rb") as stream:
            for schema, channel, message in make_reader(stream).iter_messages():
                if channel.message_encoding == "json":
                    told = json.loads(message.data)
                elif decode := ros.decoder_for(channel.message_encoding, schema):
                    told = decode(message.data)
                else:
                    problem = f"{channel.topic}: message encoding {channel.message_encoding!r}"
                    raise DataError("JG-data-128", where=where, problem=problem)
                for tag, value in flat(told, channel.topic):
                    history.add(tag, message.log_time // 1000, value)
    except (OSError, ValueError, McapError, DecoderNotFoundError) as error:
        problem = one_line(error) or type(error).__name__
        raise DataError("JG-data-128", where=where, problem=problem) from None
    return history.write(episode or file.stem, where)
