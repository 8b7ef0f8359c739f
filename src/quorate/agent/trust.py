"""Whether a master's store is the one that this agent has acted for, or one that has gone back."""

from quorate.model.messages import EpochMark, Seen, Welcome


def regression(seen: Seen, welcome: Welcome) -> str | None:
    """None where the store of `welcome` holds all that was seen; else the evidence that it does not, for people.

    An epoch holds the generations from its own first one up to, not including, the next epoch's first.
    """
    if welcome.cluster != seen.cluster:
        return f"this agent belongs to cluster {seen.cluster}, the master serves cluster {welcome.cluster}"
    present = EpochMark(welcome.epoch, welcome.mark, welcome.generation)
    history = [entry for entry in welcome.history if entry.mark != welcome.mark]
    if seen.mark == welcome.mark:
        if seen.generation <= welcome.generation:
            return None
        return f"generation {seen.generation} was seen, the master's store is at {welcome.generation}"
    at = next((i for i, entry in enumerate(history) if entry.mark == seen.mark and entry.epoch == seen.epoch), None)
    if at is None:
        return f"epoch {seen.epoch} ({seen.mark}) was seen, and the master's store has never been in it"
    following = history[at + 1] if at + 1 < len(history) else _first(welcome, present)
    if seen.generation >= following.first_generation:
        return (
            f"generation {seen.generation} was seen in epoch {seen.epoch}, which in the master's store ended "
            f"before generation {following.first_generation}"
        )
    return None


def _first(welcome: Welcome, present: EpochMark) -> EpochMark:
    """The present epoch with its first generation, which the history tells if it holds the present epoch at all."""
    return next((entry for entry in welcome.history if entry.mark == welcome.mark), present)
