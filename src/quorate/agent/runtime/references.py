"""Image references as registries know them; pure."""

from dataclasses import dataclass

_DOCKER_HUB = "docker.io"
#: A name of it that engines take for the other.
_DOCKER_HUB_TOO = ("index.docker.io",)
#: Under which Docker's own tools keep what they know of Docker Hub.
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Reference:
    """`registry/repository`, and a tag or a digest."""

    registry: str
    repository: str
    #: A tag such as `3.12`, or a digest such as `sha256:…`, which wins where both were written.
    tag: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """As Docker reads it: `python` is docker.io/library/python:latest. For what `model.image` lets through."""
        rest, _, digest = text.partition("@")
        first, slash, more = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, rest = _DOCKER_HUB if first in _DOCKER_HUB_TOO else first, more
        else:
            registry = _DOCKER_HUB
        # A colon after the last slash: before it stands a registry's port.
        repository, _, tag = rest.partition(":")
        if registry == _DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(registry, repository, digest or tag or "latest")

    @property
    def name(self) -> str:
        """Without the tag."""
        return f"{self.registry}/{self.repository}"

    @property
    def credentials_key(self) -> str:
        """Under which credentials for its registry are kept."""
        return _DOCKER_HUB_KEY if self.registry == _DOCKER_HUB else self.registry

    def __str__(self) -> str:
        return f"{self.name}{'@' if ':' in self.tag else ':'}{self.tag}"
