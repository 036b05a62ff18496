"""`editr1 serve`: a verifier behind HTTP."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from editr1.cli import options
from editr1.errors import ConfigError

_REMOTE_BATCHES = 4


@options.takes_judge
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs --token-env.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8700,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env", help="The environment variable that holds the token clients must send.", show_default=False
        ),
    ] = None,
    passes: Annotated[
        int | None, typer.Option("--passes", help="Verdicts to draw for each edit (default: 1).", show_default=False)
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Most edits judged in one call.")] = 64,
    parallel: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Batches judged at a time: 4 with --base-url, so that one slow answer holds up few; a local model is "
            "fastest with 1, and takes no more.",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        float, typer.Option(min=0, max=1000, help="Milliseconds that an idle service waits for company.")
    ] = 10.0,
    max_megabytes: Annotated[float, typer.Option(min=0.1, help="Most MiB in one request.")] = 64.0,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Most megapixels in one picture.")] = 16.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds to finish requests when told to stop.")] = 30.0,
    quiet: options.QuietOption = False,
    *,
    given: options.JudgeOptions,
) -> None:
    """Serve a verifier over HTTP: POST /v1/score with base64 pictures gives verdicts, in order.

    Everything that `editr1 score` takes to choose a judge works here. Ctrl-C or SIGTERM finishes what is under way.
    """
    from editr1.serving.limits import MIB, Limits, require_extra

    require_extra()
    from editr1.serving import create_app, run
    from editr1.serving.process import bind, is_loopback

    token = _token(token_env)
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached from other machines: name a variable that holds a token with --token-env, or "
            f"listen on 127.0.0.1"
        )
    settings = given.resolve(passes=passes)
    parallel = _parallel(parallel, remote=settings.judge.resolved_kind == "openai")
    limits = Limits(request_bytes=int(max_megabytes * MIB), image_pixels=int(max_megapixels * 1e6))
    sock = bind(host, port)
    with sock:
        verifier = options.build_verifier(settings, quiet=quiet)
        app = create_app(
            verifier, limits=limits, token=token, max_batch=max_batch, window=window / 1000, parallel=parallel
        )
        where = f"[{host}]" if ":" in host else host
        typer.echo(f"{verifier.judge.name} answers at http://{where}:{sock.getsockname()[1]}/v1/score", err=True)
        run(app, sock, grace=grace)


def _parallel(asked: int | None, *, remote: bool) -> int:
    """How many batches at a time.

    Raises:
        ConfigError: if a local model should judge several, which it does one after the other.
    """
    if asked is None:
        return _REMOTE_BATCHES if remote else 1
    if asked > 1 and not remote:
        raise ConfigError(
            f"--parallel {asked} needs a judge behind a server (--base-url): a local model judges one batch at a time; "
            f"leave the option out"
        )
    return asked


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    token = os.environ.get(variable)
    if not token:
        raise ConfigError(f"the environment variable {variable} is empty: put the token that clients send into it")
    return token
