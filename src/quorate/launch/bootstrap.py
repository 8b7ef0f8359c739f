"""What runs in a member before its command: the image's own bootstrap script, then the job's. Pure.

The shell that runs them becomes the command, so the command is the same process in the same container, and what a
script has installed or written is there. Each script runs in a subshell: its directory, options, traps and `exit` stay
with it, and what it exports goes on to the next one and to the command. Any POSIX shell will do; without a script there
need be none.
"""

from __future__ import annotations

import re
from typing import Dict, Mapping, Tuple

from quorate.launch.config import Configuration
from quorate.launch.environment import DISTRIBUTED, MASTER_PORT, host_of
from quorate.launch.launchers import Launch

#: Where an image may bring a script of its own.
IMAGE_SCRIPT = "/etc/quorate/bootstrap"

#: Parameters: failure line, image's script or nothing, job's script, MASTER_ADDR, MASTER_PORT, TF_CONFIG, rank, hosts,
#: a word where the network refuses any other MASTER_PORT; then the command. Variables begin with _quorate, and none of
#: them is exported: the scripts are the user's.
#:
#: A script may `exit`, so it has a subshell, which says at its end what is exported (`export -p` quotes it for a
#: shell). That is read up to the line with the exit code and not up to the end of the pipe, which a daemon that the
#: script has left running may hold open. A script with an EXIT trap of its own is heard only if it does not `exit`. The
#: last part is environment.derive once more, for what a script has set: a test holds both to the same answers.
_SHELL = r"""
_quorate_failed=$1 _quorate_file=$2 _quorate_text=$3 _quorate_addr=$4 _quorate_port=$5 _quorate_tf=$6
_quorate_rank=$7 _quorate_hosts=$8 _quorate_planned=$9
shift 9
_quorate_run() {
    exec 8>&1
    _quorate_kept=$(
        {
            exec 9>&1
            (
                trap '[ $? -ne 0 ] || [ -n "$_quorate_told" ] || export -p >&9' EXIT
                _quorate_told=
                set --
                set -e
                exec >&8 8>&-
                eval "$_quorate_step"
                export -p >&9
                _quorate_told=1
            )
            printf '\n%s %s\n' "$_quorate_failed" "$?" >&9
        } | while IFS= read -r _quorate_line; do
            printf '%s\n' "$_quorate_line"
            case $_quorate_line in "$_quorate_failed "*) break ;; esac
        done
    )
    exec 8>&-
    _quorate_code=${_quorate_kept##*"$_quorate_failed "}
    if [ "$_quorate_code" != 0 ]; then
        printf '%s %s\n' "$_quorate_failed" "$_quorate_code" >&2
        exit "$_quorate_code"
    fi
    _quorate_here=$PWD
    eval "${_quorate_kept%"$_quorate_failed "*}"
    PWD=$_quorate_here
    unset OLDPWD
}
if [ -n "$_quorate_file" ]; then
    _quorate_step='. "$_quorate_file"'
    _quorate_run
fi
if [ -n "$_quorate_text" ]; then
    _quorate_step=$_quorate_text
    _quorate_run
fi
if [ -n "$_quorate_hosts" ]; then
    [ -n "${MASTER_ADDR+x}" ] || export MASTER_ADDR="$_quorate_addr"
    [ -n "${MASTER_PORT+x}" ] || export MASTER_PORT="${BACKENDAI_DIST_MASTER_PORT:-$_quorate_port}"
    [ -z "$_quorate_planned" ] || [ "$MASTER_PORT" = "$_quorate_port" ] ||
        printf 'quorate: the bootstrap sets MASTER_PORT to %s, and the network lets %s pass; %s\n' \
            "$MASTER_PORT" "$_quorate_port" 'set it in the environment of the job instead' >&2
    if [ -n "$_quorate_tf" ] && [ -z "${TF_CONFIG+x}" ]; then
        _quorate_last=0
        case $MASTER_PORT in
            "$_quorate_port") export TF_CONFIG="$_quorate_tf" ;;
            [1-9]|[1-9][0-9]|[1-9][0-9][0-9]|[1-9][0-9][0-9][0-9]|[1-9][0-9][0-9][0-9][0-9])
                _quorate_workers= _quorate_last=$MASTER_PORT
                for _quorate_host in $_quorate_hosts; do
                    _quorate_workers="$_quorate_workers${_quorate_workers:+, }\"$_quorate_host:$_quorate_last\""
                    _quorate_last=$((_quorate_last + 1))
                done
                _quorate_task="\"task\": {\"type\": \"worker\", \"index\": $_quorate_rank}"
                [ "$_quorate_last" -gt 65536 ] ||
                    export TF_CONFIG="{\"cluster\": {\"worker\": [$_quorate_workers]}, $_quorate_task}" ;;
            *) _quorate_last=65537 ;;
        esac
        [ "$_quorate_last" -le 65536 ] ||
            printf 'quorate: MASTER_PORT %s leaves no port for each rank, so there is no TF_CONFIG\n' "$MASTER_PORT" >&2
    fi
fi
exec "$@"
"""


def before(
    launch: Launch,
    configuration: Configuration,
    environment: Mapping[str, str],
    text: str,
    image_script: bool = False,
    planned: bool = False,
) -> Launch:
    """The launch with the scripts before it; the same where there is none.

    `environment`: what user and image have set. The variables that frameworks read to find each other are derived
    behind the scripts, so a script sees none of them that is not the user's own, and what it sets stands. `planned`:
    members reach the first one at no other MASTER_PORT than they are told, so one that a script sets is mentioned.
    """
    if not text and not image_script:
        return launch
    added: Dict[str, str] = dict(launch.environment)
    distributed = {name: added.pop(name, "") for name in DISTRIBUTED}
    hosts = [host_of(configuration, member) for member in configuration.members] if configuration.size > 1 else []
    argv: Tuple[str, ...] = (
        "sh",
        "-c",
        _SHELL,
        "quorate-bootstrap",
        _failure(configuration.member_id),
        IMAGE_SCRIPT if image_script else "",
        text,
        distributed["MASTER_ADDR"],
        distributed[MASTER_PORT] or environment.get(MASTER_PORT, ""),
        distributed["TF_CONFIG"],
        str(configuration.rank),
        " ".join(f"[{host}]" if ":" in host else host for host in hosts),
        "planned" if planned else "",
        *launch.argv,
    )
    return Launch(argv, added)


def has_failed(member_id: str, tail: str) -> bool:
    """Whether the last lines of a member's output say that its bootstrap failed, with the exit code of the member."""
    return re.search(rf"^{re.escape(_failure(member_id))} \d+$", tail, re.MULTILINE) is not None


def _failure(member_id: str) -> str:
    return f"quorate: the bootstrap of {member_id} failed with exit code"
