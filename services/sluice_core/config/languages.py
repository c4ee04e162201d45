"""Languages of conditions: those that can be told apart, where what tells them is installed."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from sluice_core.config.document import Path, Problem


def language_problem(path: Path, languages: Sequence[str]) -> Iterator[Problem]:
    """Everything wrong with a condition's languages."""
    if not languages:
        return
    if find_spec("py3langid") is None:
        message = "languages are told by py3langid: install sluicegate[languages]"
        yield Problem(path=path, message=message)
        return
    from sluice_core.routing.language import known_languages

    known = known_languages()
    for index, language in enumerate(languages):
        if language not in known:
            message = f'no language "{language}" is told apart; write an ISO 639-1 code, such as de'
            yield Problem(path=(*path, index), message=message)
