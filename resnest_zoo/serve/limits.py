"""How much is accepted of a client, so that memory, disk and time have a bound."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds until a body must be there, and bytes a second beyond which it gets more time.
BODY_SECONDS, BODY_RATE = 30.0, 50_000
# Seconds in which a connection must bring the head of a request.
HEAD_SECONDS = 20.0
# Bytes of a multipart body beside its files.
ENVELOPE = 64 * 1024
# Seconds that running work has when the server ends.
GRACE = 5
# Times `max_pixels` that may be decoded at once, all requests together, three bytes each.
ROOM = 4
# Connections at once, open event streams among them.
CONNECTIONS = 500


@dataclass(frozen=True)
class Limits:
    """What one server accepts; the defaults are those of the command.

    Attributes:
        max_bytes: of the files of one request.
        max_film_bytes: of a film.
        max_pixels: of a picture or a frame, before it is decoded.
        max_files: of one request.
        queue: pictures that wait or are worked on, all requests together.
        batch: pictures of one padded size that go through the model together; None for as many as
            `Predictor.stream` takes by default, on the CPU, which gains nothing by it, 1.
        window: seconds that a picture waits for others of its batch.
        timeout: seconds from a picture's arrival to its answer.
        films: that are worked on at once.
        models: that are loaded at once.
    """

    max_bytes: int = 25_000_000
    max_film_bytes: int = 500_000_000
    max_pixels: int = 50_000_000
    max_files: int = 16
    queue: int = 32
    batch: int | None = None
    window: float = 0.015
    timeout: float = 60.0
    films: int = 2
    models: int = 4
