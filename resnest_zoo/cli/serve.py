"""The command `serve`: a page to try detectors on, and the same as an HTTP API."""

from __future__ import annotations

import argparse
from typing import Any

from resnest_zoo.cli.arguments import CommandParser, add_exact, add_overrides, names, positive
from resnest_zoo.cli.common import show_warnings
from resnest_zoo.errors import ConfigError, UnknownModelError, ZooError
from resnest_zoo.registry import SHIPPED, info
from resnest_zoo.serve.limits import Limits

_PACKAGES = ("starlette", "uvicorn", "python_multipart")


def add_commands(commands: Any) -> None:
    """Add the parser of `serve`."""
    limits = Limits()
    serve: CommandParser = commands.add_parser(
        "serve",
        help="a page to try detectors on, and an HTTP API",
        description="Serve detectors to a page in the browser and to other programs, on this machine alone "
        "unless --host says otherwise.",
    )
    serve.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="which detectors are loaded at once, the first by default; or checkpoints of "
        "`resnest-zoo train`. Without any, a small one that comes with the package",
    )
    serve.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine alone")
    serve.add_argument("--port", type=_port, default=8000, help="default: 8000; 0: any that is free")
    serve.add_argument(
        "--token", help="what clients must know; beyond this machine one is made up and printed"
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that this server is reached by",
    )
    serve.add_argument("--only", action="store_true", help="no other models can be loaded")
    for option, text in (
        ("--max-bytes", "of the pictures of one request"),
        ("--max-film-bytes", "of a film"),
        ("--max-pixels", "of a picture"),
        ("--queue", "pictures that wait or are worked on, at most"),
    ):
        default = getattr(limits, option[2:].replace("-", "_"))
        serve.add_argument(
            option, type=positive, default=default, metavar="N", help=f"{text}; default {default:,}"
        )
    serve.add_argument(
        "--max-models",
        type=positive,
        default=limits.models,
        metavar="N",
        help="loaded at once; default %(default)s",
    )
    serve.add_argument(
        "--batch",
        type=positive,
        metavar="N",
        help="pictures of one size that go through the model together; default 4, on the CPU 1",
    )
    serve.add_argument(
        "--timeout",
        type=positive,
        default=int(limits.timeout),
        metavar="S",
        help="seconds until a picture is given up; default %(default)s",
    )
    serve.add_argument("-w", "--weights", metavar="PATH|URL", help="another checkpoint for the one NAME")
    serve.add_argument(
        "--class-names",
        type=names,
        metavar="A,B,…",
        help="what the classes of --weights are called, in order",
    )
    serve.add_argument("-d", "--device", help="such as cpu or cuda:1; by default a GPU if there is one")
    add_exact(serve)
    add_overrides(serve, pairs=False)
    serve.set_defaults(run=_serve)


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or int(text) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


def check_installed() -> None:
    """Refuse where the extra is missing.

    Raises:
        ZooError: it is.
    """
    from importlib.util import find_spec

    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ZooError(f"{', '.join(missing)} not installed: pip install 'resnest-zoo[serve]'")


def _serve(args: argparse.Namespace) -> int:
    check_installed()
    chosen = args.names or list(SHIPPED[:1])
    if len(args.names) != 1 and (args.weights or args.class_names or args.overrides):
        raise ConfigError("--weights, --class-names and --set are of one model: name one")
    from resnest_zoo.serve.app import Service
    from resnest_zoo.serve.models import Models
    from resnest_zoo.serve.server import address_of, bind, build_server, choose_token, run

    show_warnings()
    limits = Limits(
        max_bytes=args.max_bytes,
        max_film_bytes=args.max_film_bytes,
        max_pixels=args.max_pixels,
        queue=args.queue,
        batch=args.batch,
        timeout=float(args.timeout),
        models=args.max_models,
    )
    models = Models(
        chosen,
        lambda source: _build(args, source),
        limits,
        only=args.only,
        own_weights=args.weights is not None,
    )
    token = choose_token(args.host, args.token)
    with bind(args.host, args.port) as listening:
        port = listening.getsockname()[1]
        server = build_server(
            Service(models, limits), host=args.host, port=port, names=args.allow_host, token=token
        )
        address = address_of(args.host, port, token)
        run(server, listening, lambda: print(f"serving on {address}", flush=True))
    return 0


def _build(args: argparse.Namespace, source: str) -> Any:
    """The predictor of a model; what the command says of weights is of the one that it names."""
    from resnest_zoo.api import Predictor

    own: dict[str, Any] = {}
    if args.names and source == _whole_name(args.names[0]):
        own = {"weights": args.weights, "categories": args.class_names, "overrides": args.overrides}
    return Predictor(source, score_threshold=0.05, device=args.device, exact=args.exact, **own)


def _whole_name(name: str) -> str:
    """Of an alias."""
    try:
        return info(name).name
    except UnknownModelError:
        return name
