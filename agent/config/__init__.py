"""The configuration: one YAML file, all of whose mistakes are told at once."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agent.config.convert import config_of, folders_of
from agent.config.mistakes import problems_of
from agent.config.model import DocumentPart, schema
from agent.config.references import mistakes
from agent.config.settings import ClusterSettings, Config, digest
from agent.config.source import Problem, Source, dotted, read
from agent.installation import EXAMPLE, manual
from state.errors import ConfigurationError

__all__ = ["ClusterSettings", "Config", "digest", "load", "schema"]

_REQUIRED = [name for name, field in DocumentPart.model_fields.items() if field.is_required()]


def load(path: Path) -> Config:
    """Return the configuration in a file.

    Raises ConfigurationError with all its problems, each as
    ``FILE:LINE: path.to.key: sentence``, in the order of the lines. Files that it
    names need not exist.
    """
    source = read(path)
    document = None
    errors: list[ErrorDetails] = []
    try:
        document = DocumentPart.model_validate(source.content)
    except ValidationError as found:
        errors = found.errors(include_url=False, include_input=False)
    if _is_unconfigured(source, errors):
        missing = " and ".join(", ".join(_REQUIRED).rsplit(", ", 1))
        raise ConfigurationError([f"{path}: nothing is configured yet: {missing} are missing"], _described())
    problems = [*source.problems, *_once(problems_of(errors, source), source), *_once(mistakes(source), source)]
    if document is None or problems:
        ordered = sorted((line, dotted(place), sentence) for line, place, sentence in problems)
        raise ConfigurationError([": ".join(filter(None, (f"{path}:{line}", *rest))) for line, *rest in ordered])
    return config_of(document, folders_of(path))


def _is_unconfigured(source: Source, errors: Iterable[ErrorDetails]) -> bool:
    """Tell whether a file is right, but for everything that is required: so is the one that the package brings."""
    return (
        not any(name in source.content for name in _REQUIRED)
        and not (source.problems or source.odd or any(mistakes(source)))
        and all(error["type"] == "missing" for error in errors)
    )


def _described() -> str:
    example = f"; {EXAMPLE} is an example" if EXAMPLE.exists() else ""
    return f"{manual()} describes every key{example}; `isthmus check` tells what is still wrong"


def _once(problems: Iterable[Problem], source: Source) -> Iterator[Problem]:
    """Yield what is told of a part of the file once, however often aliases repeat that part."""
    told = set()
    for problem in problems:
        identity = (source.mark(problem.place).node, problem.place[-1], problem.sentence)
        if identity not in told:
            told.add(identity)
            yield problem
