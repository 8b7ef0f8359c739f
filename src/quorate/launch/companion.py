"""The process beside a member: waits until all members are there, then watches that none fails unnoticed.

It is forked from the agent's zygote and speaks with the member's shim over a socketpair, one JSON object a line:

    shim → companion   the configuration (config.py), first
                       {"exited": {"code", "signal", "stopped"}}   `stopped`: by order, so it is no failure
                       {"ended": reason}                           its machine ends it, and nobody else has said so
                       {"first_waits": seconds}                    the first member is there, its agent says
    companion → shim   {"go": {"environment": {…}}}                variables to add where the user has not set them
                       {"failed": {"code", "sentence"}}            the command must not be started
                       {"stop": {"reason", "echo": true}}          another member has failed
                       {"notice": {"code", "sentence"}}            worth a line
                       {"waits": seconds}                          the first member's: some have not come

After `exited` or `ended` it ends by itself within FAREWELL_S, whatever else is said. If the shim dies without a word,
its member is lost, which the others are told like any failure. Else they would meet broken connections of the member's
own in both cases, fail by themselves, and be taken for the cause.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import threading
from typing import Any, Dict, List

from quorate.launch import devices, names
from quorate.launch.config import MAX_BYTES, Configuration, ConfigurationError, Preflight
from quorate.launch.lines import Lines, Object
from quorate.launch.links import PortTaken
from quorate.launch.reactor import Reactor
from quorate.launch.rendezvous import Arrival, Failure, Gathering
from quorate.launch.watch import Watch

#: How long a last word may take to be read.
_LAST_WORD_S = 5.0
#: How long the word of a shim's death may take to reach the others: nobody is left to end this process.
_ORPHAN_S = 1.0
#: Members of whom the kernel is asked by which device it reaches them; it takes some microseconds each.
_ROUTES = 64
#: The host's own name is worth a notice only; the members' start comes first.
_LOOK_UP_AFTER_S = 1.0


def serve(channel: socket.socket) -> None:
    """Serves one member until it has ended. Returns; raises nothing that the shim can be told instead."""
    _Companion(channel).run()


class _Companion:
    def __init__(self, channel: socket.socket) -> None:
        self._reactor = Reactor()
        self._channel = Lines(self._reactor, channel, self._configured, lambda _: self._shim_gone(), max_line=MAX_BYTES)
        self._said_end = False
        #: The command has been let go.
        self._may_run = False
        self._variables: Dict[str, str] = {}
        self._configuration: Configuration | None = None
        self._barrier: Gathering | Arrival | None = None
        self._watch: Watch | None = None

    def run(self) -> None:
        try:
            self._reactor.run()
        except Exception as error:  # a bug, or a machine without memory: the shim must not wait for a go
            self._failed(Failure("COMPANION-FAILED", f"the companion failed: {type(error).__name__}: {error}"))
            self._reactor.run()
        finally:
            if self._barrier is not None:
                self._barrier.close()
            if self._watch is not None:
                self._watch.close()
            self._channel.close()
            self._reactor.close()

    def _configured(self, message: Object) -> None:
        self._channel.on_object = self._told
        try:
            configuration = Configuration.from_object(message)
        except ConfigurationError as error:
            self._failed(Failure("COMPANION-FAILED", str(error)))
            return
        self._configuration = configuration
        _allow_files_for(configuration.size)
        for finding in _of_names(configuration):
            if finding.fatal and configuration.preflight is Preflight.REQUIRE:
                self._failed(Failure(finding.code, finding.sentence))
                return
            self._notice(finding.code, finding.sentence)
        try:
            self._watch = Watch(self._reactor, configuration, self._stop, self._notice, self._end)
            if configuration.rank == configuration.first.rank:
                self._barrier = Gathering(
                    self._reactor, configuration, self._go, self._failed, self._notice, self._waits
                )
            else:
                self._barrier = Arrival(self._reactor, configuration, self._go, self._failed, self._notice)
        except PortTaken as error:
            self._failed(Failure("PORT-TAKEN", str(error.strerror)))
        except ConfigurationError as error:
            self._failed(Failure("COMPANION-FAILED", str(error)))
        # While the others come.
        peers = [member.address for member in configuration.members if member.rank != configuration.rank]
        self._variables = devices.variables(configuration.own.address, peers[:_ROUTES])

    def _go(self) -> None:
        assert self._configuration is not None and self._watch is not None
        self._channel.send({"go": {"environment": self._variables}})
        self._may_run = True
        self._watch.start()
        looks = self._configuration.preflight is not Preflight.OFF
        if looks and not names.is_loopback(self._configuration.own.address):
            self._reactor.after(_LOOK_UP_AFTER_S, self._look_up_host)

    def _look_up_host(self) -> None:
        """In a thread, since DNS may take seconds and nobody waits for it."""
        configuration = self._configuration
        assert configuration is not None
        here, there = socket.socketpair()

        def look_up() -> None:
            with there:
                for finding in names.of_host(configuration, socket.gethostname()):
                    notice = {"code": finding.code, "sentence": finding.sentence}
                    there.sendall(json.dumps(notice).encode() + b"\n")

        Lines(self._reactor, here, lambda found: self._notice(found["code"], found["sentence"]), lambda _: None)
        threading.Thread(target=look_up, daemon=True).start()

    def _told(self, message: Object) -> None:
        exited, ended, waited_s = message.get("exited"), message.get("ended"), message.get("first_waits")
        if isinstance(waited_s, float) and isinstance(self._barrier, Arrival):
            self._barrier.first_waits(waited_s)
        if isinstance(exited, dict):
            self._tell_end(self._how(exited))
        elif isinstance(ended, str):
            self._tell_end(f"{self._own} is ended: {ended}")

    def _shim_gone(self) -> None:
        if self._may_run:
            self._tell_end(f"the supervisor of {self._own} died")
            self._reactor.after(_ORPHAN_S, self._reactor.stop)
        elif not self._said_end:
            self._reactor.stop()

    def _tell_end(self, failure: str | None) -> None:
        """Tells the others, once."""
        if self._said_end:
            return
        self._said_end = True
        if self._watch is None:
            self._reactor.stop()
        else:
            self._watch.own_ended(failure)

    @property
    def _own(self) -> str:
        assert self._configuration is not None
        return f"member {self._configuration.own.name}"

    def _how(self, exited: Dict[str, Any]) -> str | None:
        """Words for a failed end; none for a good one and for one by order."""
        code, number = exited.get("code"), exited.get("signal")
        if exited.get("stopped") is True or code == 0:
            return None
        if type(code) is int:
            return f"{self._own} failed with exit code {code}"
        if type(number) is int:
            return f"{self._own} was ended by {_signal_name(number)}"
        return f"{self._own} failed"

    def _stop(self, reason: str) -> None:
        self._channel.send({"stop": {"reason": reason, "echo": True}})

    def _notice(self, code: str, sentence: str) -> None:
        self._channel.send({"notice": {"code": code, "sentence": sentence}})

    def _waits(self, seconds: float) -> None:
        self._channel.send({"waits": seconds})

    def _failed(self, failure: Failure) -> None:
        """Says so and stays until the shim ends the channel, so that the other members hear it as well."""
        self._channel.send({"failed": {"code": failure.code, "sentence": failure.sentence}})
        self._reactor.after(_LAST_WORD_S, self._reactor.stop)

    def _end(self) -> None:
        self._reactor.stop()


def _of_names(configuration: Configuration) -> List[names.Finding]:
    """Without a preflight nobody looks, for a look may itself take seconds."""
    if configuration.preflight is Preflight.OFF:
        return []
    return [*names.of_addresses(configuration), *names.in_time(configuration)]


def _allow_files_for(size: int) -> None:
    """The first member's companion holds two connections of each other member; the usual limit is 1024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * size + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
