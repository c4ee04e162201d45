"""What a person may have meant by a name that is not there."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` where a known name is close, else what there is to choose from."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; there are: {', '.join(names[:12])}" if names else "; there are none"
