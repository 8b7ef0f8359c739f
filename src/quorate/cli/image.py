"""`quorate image`: build and push images with the user's own Docker or Podman, also those that a job wants built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.errors import CommandError, usage
from quorate.cli.exits import Exit
from quorate.cli.output import Json, note, print_json

if TYPE_CHECKING:
    from quorate.model.image import Image
    from quorate.model.job import JobSpec

app = new_group("Build and push images with this machine's own Docker or Podman.", no_args_is_help=True)

#: The more usual first; QUORATE_ENGINE names another.
_PROGRAMS = ("docker", "podman")
#: A label of what a job has built, so that `docker image prune --filter label=quorate.built` finds it.
_LABEL = "quorate.built"


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Folder with a Dockerfile.", metavar="FOLDER")] = Path(),
    tag: Annotated[str | None, typer.Option("--tag", "-t", help="What it is called.", metavar="REF")] = None,
    push_it: Annotated[bool, typer.Option("--push", help="Push it too, so that agents can pull it.")] = False,
    as_json: Json = False,
) -> int:
    """Build an image and print what a job has to name.

    \b
      quorate image build . --tag registry.example.org/team/train:1 --push
    """
    if push_it and tag is None:
        usage("--push needs to know where to", "add --tag registry.example.org/team/NAME:TAG")
    return _told(_build(_folder(folder), tag, push_it), as_json)


@app.command()
def push(
    reference: Annotated[str, typer.Argument(help="An image of this machine's engine.", metavar="REF")],
    as_json: Json = False,
) -> int:
    """Push an image and print it with its digest, which names the same bytes for ever."""
    return _told(_push(_program(), _checked(reference)), as_json)


def _told(reference: str, as_json: bool) -> int:
    if as_json:
        print_json({"image": reference})
    else:
        print(reference)
    return Exit.OK


# --- what a job wants built --------------------------------------------------------------------------------------


def built(spec: JobSpec) -> JobSpec:
    """The job with every `image: {build: …}` built, pushed where it says so, and named by its digest.

    Raises CommandError. A folder that two roles name is built once.
    """
    done: dict[tuple[str, str | None], Image] = {}

    def make(image: Image) -> Image:
        assert image.build is not None
        key = image.build, image.push
        if key not in done:
            reference = _build(Path(image.build), image.push, image.push is not None)
            done[key] = _named(image, reference)
        return done[key]

    return _replaced(spec, make)


def named(spec: JobSpec) -> JobSpec:
    """The same without building anything: for a plan."""
    return _replaced(spec, lambda image: _named(image, image.push or f"quorate/{_slug(Path(image.build or ''))}:plan"))


def _replaced(spec: JobSpec, make: Callable[[Image], Image]) -> JobSpec:
    def settled(image: Image | None) -> Image | None:
        return image if image is None or image.build is None else make(image)

    roles = {
        name: role if role.image is None else role.model_copy(update={"image": settled(role.image)})
        for name, role in spec.roles.items()
    }
    return spec.model_copy(update={"image": settled(spec.image), "roles": roles})


def _named(image: Image, reference: str) -> Image:
    from quorate.model.image import Image, Pull

    # What was not pushed is in this machine's engine alone: nobody may go and look for that name elsewhere.
    return Image(name=reference, pull=image.pull if image.push else Pull.NEVER)


# --- the engine's own program --------------------------------------------------------------------------------------


def _build(folder: Path, tag: str | None, pushed: bool) -> str:
    program = _program()
    name = _checked(tag) if tag else f"quorate/{_slug(folder)}:latest"
    if not any((folder / file).is_file() for file in ("Dockerfile", "Containerfile")):
        raise CommandError(
            f"{folder} has no Dockerfile",
            hint="one line is enough to begin with: FROM python:3.12",
            code=Exit.USAGE,
        )
    note(f"building {folder} with {program}")
    _run([program, "build", "--tag", name, "--label", f"{_LABEL}={_slug(folder)}", str(folder)], f"build of {folder}")
    if pushed:
        return _push(program, name)
    identity = _ask([program, "image", "inspect", "--format", "{{.Id}}", name]).removeprefix("sha256:")
    # A name of its own for each content: `latest` would be another image after the next build.
    own = tag or f"quorate/{_slug(folder)}:{identity[:12]}"
    if tag is None:
        _run([program, "tag", name, own], f"tag {own}")
        note("only engines of this machine have it; to run it elsewhere, give it a --tag at a registry, and --push")
    return own


def _push(program: str, reference: str) -> str:
    note(f"pushing {reference}")
    _run([program, "push", reference], f"push of {reference}")
    digests = json.loads(_ask([program, "image", "inspect", "--format", "{{json .RepoDigests}}", reference]) or "[]")
    repository = re.sub(r":[^/:]*$", "", reference.partition("@")[0])
    return next((digest for digest in digests if digest.partition("@")[0] == repository), reference)


def _run(command: list[str], what: str) -> None:
    """Its output is the user's to see, on standard error, since standard output is for the result."""
    code = subprocess.run(command, stdout=2, stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise CommandError(
            f"the {what} failed: {command[0]} ended with {code}",
            hint=f"{' '.join(command)} runs it alone; {command[0]} login, if the registry refused it",
        )


def _ask(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(
            f"{' '.join(command[:3])} failed: {done.stderr.strip()}", hint=f"{command[0]} info says whether it works"
        )
    return done.stdout.strip()


def _program() -> str:
    wanted = os.environ.get("QUORATE_ENGINE")
    found = next((name for name in ([wanted] if wanted else _PROGRAMS) if shutil.which(name)), None)
    if found is None:
        raise CommandError(
            f"there is no {wanted or 'docker or podman'} here to build images with",
            hint="install one of them, or name an image that a registry has: image: python:3.12",
            code=Exit.USAGE,
        )
    return found


def _checked(reference: str) -> str:
    from quorate.model.image import check_reference

    try:
        return check_reference(reference)
    except ValueError as error:
        raise CommandError(str(error), code=Exit.USAGE) from None


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise CommandError(
            f"there is no folder {path}", hint="name the folder that holds the Dockerfile", code=Exit.USAGE
        )
    return path.resolve()


def _slug(folder: Path) -> str:
    """The folder's name as a part of an image's."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "image"
