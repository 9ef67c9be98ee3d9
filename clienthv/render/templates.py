"""Jinja's one environment, and the check of what it makes against libvirt's own schema."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clienthv import datafiles
from clienthv.errors import TemplateError

if TYPE_CHECKING:
    from jinja2 import Environment

_SCHEMAS: Final = ("/usr/share/libvirt/schemas/domain.rng", "/usr/local/share/libvirt/schemas/domain.rng")


def environment() -> Environment:
    """The one Jinja environment: escaping always on, undefined names and None are errors, no code can be reached.

    The user's folder comes first, then /etc, then what came with clienthv; the last is also under ``packaged/``, so
    that a user's ``domain.xml.j2`` can extend it and change single blocks.
    """
    from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    folders = datafiles.folders("templates")
    packaged = FileSystemLoader(folders[-1].path)
    layers = [FileSystemLoader(folder.path) for folder in folders]
    return ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([*layers, PrefixLoader({"packaged": packaged})]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_never_none,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _never_none(value: Any) -> Any:
    if value is None:
        msg = "a template prints a value that is None"
        raise TemplateError(msg, hint="let the template test the value with {% if %} first")
    return value


def environment_text(template: str, context: Mapping[str, object]) -> str:
    """A template's text. Raises TemplateError."""
    from jinja2 import TemplateError as JinjaError

    try:
        return environment().get_template(template).render(context)
    except (JinjaError, OSError, ArithmeticError, TypeError, ValueError, RecursionError) as e:
        msg = f"template {_where(e, template)} is broken: {e}"
        hint = f"see the templates in {datafiles.folders('templates')[0].path}, or move them away"
        raise TemplateError(msg, hint=hint) from e


def _where(error: BaseException, template: str) -> str:
    """The innermost template that an error came from, with its line where Jinja knows it."""
    from jinja2 import TemplateSyntaxError

    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or error.name or template}, line {error.lineno},"
    frames = traceback.extract_tb(error.__traceback__)
    return next((f"{f.filename}, line {f.lineno}," for f in reversed(frames) if f.filename.endswith(".j2")), template)


def schema_path() -> Path | None:
    """Where libvirt's domain schema is on this machine (package libvirt-common), or None."""
    return next((p for p in map(Path, _SCHEMAS) if p.is_file()), None)


def check(xml: str) -> bool:
    """Check a domain against libvirt's RNG schema. Returns False where the schema is not installed.

    Raises TemplateError, naming the line.
    """
    from lxml import etree

    try:
        document = etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, UnicodeEncodeError) as e:
        msg = f"the rendered domain is not XML: {e}"
        raise TemplateError(msg, hint="look at the templates that were changed") from e
    path = schema_path()
    if path is None:
        return False
    schema = etree.RelaxNG(etree.parse(path))
    if not schema.validate(document):
        error = schema.error_log.last_error
        msg = f"the rendered domain is not a libvirt domain: line {error.line}: {error.message}"
        raise TemplateError(msg, hint="look at the templates that were changed")
    return True
